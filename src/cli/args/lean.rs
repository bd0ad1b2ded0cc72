//! The lean way to read a command line: one that is plainly right is read without clap, which would cost a link of a chain a sixth of its
//! life, and a service that lives on the memory that it has touched.
//!
//! It never says what is wrong. Where anything is, or only may be, it gives up, and clap reads the same words again: help, errors, and
//! spellings that are legal and odd are clap's alone. Whatever it does read, it reads as clap does; tests hold the two together.
#![forbid(unsafe_code)]

use super::line::Line;
use crate::delivery::{Layout, NotifyTo, SocketLayout};
use crate::source::Type;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// The words of a command, or a group of options that commands share.
pub(super) trait Lean: Sized {
    /// As it is before an option is read.
    fn defaults() -> Option<Self>;

    /// Takes the option if it is one of these, and tells whether it was; none where it is not plainly right.
    fn take(&mut self, line: &mut Line<'_>) -> Option<bool>;

    /// Takes the words from number `at` on, which follow the options. A group takes none, nor does a command that has no place for them.
    fn end(&mut self, words: &mut Vec<OsString>, at: usize) -> Option<()> {
        (words.len() == at).then_some(())
    }
}

/// Reads the words behind a command's name, `doorward` and that being the first two. They are left as they are unless all is right.
pub(super) fn read<T: Lean>(words: &mut Vec<OsString>) -> Option<T> {
    let mut read = T::defaults()?;
    let mut line = Line::from(words, 2);
    while line.next_option() {
        read.take(&mut line)?.then_some(())?;
    }
    let at = line.read();
    read.end(words, at)?;
    Some(read)
}

/// What an option fills: its type says how often it may be given, and whether with a value.
pub(super) trait Field {
    fn fill(&mut self, line: &mut Line<'_>) -> Option<()>;
}

/// A flag.
impl Field for bool {
    fn fill(&mut self, line: &mut Line<'_>) -> Option<()> {
        line.no_value()?;
        (!std::mem::replace(self, true)).then_some(())
    }
}

/// At most once.
impl<T: Value> Field for Option<T> {
    fn fill(&mut self, line: &mut Line<'_>) -> Option<()> {
        self.replace(line.value()?).is_none().then_some(())
    }
}

/// As often as one likes.
impl<T: Value> Field for Vec<T> {
    fn fill(&mut self, line: &mut Line<'_>) -> Option<()> {
        self.push(line.value()?);
        Some(())
    }
}

/// At most once, in place of a default.
impl<T: Value> Field for T {
    fn fill(&mut self, line: &mut Line<'_>) -> Option<()> {
        *self = line.value()?;
        (!line.is_repeated()).then_some(())
    }
}

/// What one value can be.
pub(super) trait Value: Sized {
    fn read(word: &OsStr) -> Option<Self>;
}

impl Value for OsString {
    fn read(word: &OsStr) -> Option<OsString> {
        Some(word.to_owned())
    }
}

impl Value for PathBuf {
    fn read(word: &OsStr) -> Option<PathBuf> {
        Some(word.into())
    }
}

impl Value for String {
    fn read(word: &OsStr) -> Option<String> {
        word.to_str().map(str::to_owned)
    }
}

impl Value for u32 {
    fn read(word: &OsStr) -> Option<u32> {
        word.to_str()?.parse().ok()
    }
}

/// Of the words that clap knows for a type, the one that it has itself.
macro_rules! one_of_its_words {
    ($($type:ty),*) => {$(
        impl Value for $type {
            fn read(word: &OsStr) -> Option<$type> {
                let all = <$type as clap::ValueEnum>::value_variants();
                all.iter().copied().find(|one| word == one.word())
            }
        }
    )*};
}

one_of_its_words!(
    Layout,
    SocketLayout,
    Type,
    NotifyTo,
    super::serve::ReadyWhen
);

/// A struct of words: it is left to clap as it stands, and the attributes that clap reads say how [`Lean`] reads it, too.
///
/// Of an attribute it looks at what comes first: `long`, `long = NAME` and `short, long` are an option, all else is what follows the
/// options, and says how many words that must be; and at `default_value` and `default_value_t`. How often an option may be given and what
/// its value is, the field's type says, as it does to clap. What it does not understand it does not read, and a test says so.
macro_rules! lean {
    // A struct: documentation, then at most one attribute for each field.
    (
        $(#[$($of_struct:tt)*])*
        $visible:vis struct $name:ident {$(
            $(#[doc = $doc:literal])*
            $(#[command($flatten:ident)])?
            $(#[arg($($arg:tt)*)])?
            $field_visible:vis $field:ident: $type:ty,
        )*}
    ) => {
        $(#[$($of_struct)*])*
        $visible struct $name {$(
            $(#[doc = $doc])*
            $(#[command($flatten)])?
            $(#[arg($($arg)*)])?
            $field_visible $field: $type,
        )*}

        impl $crate::cli::args::lean::Lean for $name {
            fn defaults() -> Option<Self> {
                Some($name {$($field: lean!(@default $($flatten)? $($($arg)*)?),)*})
            }

            fn take(&mut self, line: &mut $crate::cli::args::line::Line<'_>) -> Option<bool> {
                $(lean!(@take self $field line: $($flatten)? $($($arg)*)?);)*
                Some(false)
            }

            $(lean!(@end $field: $($flatten)? $($($arg)*)?);)*
        }
    };

    // A field before an option is read.
    (@default flatten) => { $crate::cli::args::lean::Lean::defaults()? };
    (@default) => { Default::default() };
    (@default default_value = $word:literal $($rest:tt)*) => {
        $crate::cli::args::lean::Value::read(std::ffi::OsStr::new($word))?
    };
    (@default default_value_t = $value:literal $($rest:tt)*) => { $value };
    (@default $other:tt $($rest:tt)*) => { lean!(@default $($rest)*) };

    // A group is asked; an option has its name.
    (@take $self:ident $field:ident $line:ident: flatten) => {
        if $crate::cli::args::lean::Lean::take(&mut $self.$field, $line)? {
            return Some(true);
        }
    };
    (@take $self:ident $field:ident $line:ident: short, long $($rest:tt)*) => {
        lean!(@fill $self $field $line: $line.is(stringify!($field)) || $line.is_short(stringify!($field)));
    };
    (@take $self:ident $field:ident $line:ident: long = $long:literal $($rest:tt)*) => {
        lean!(@fill $self $field $line: $line.is($long));
    };
    (@take $self:ident $field:ident $line:ident: long $($rest:tt)*) => {
        lean!(@fill $self $field $line: $line.is(stringify!($field)));
    };
    (@take $self:ident $field:ident $line:ident: $($follows:tt)*) => {};
    (@fill $self:ident $field:ident $line:ident: $is_it:expr) => {
        if $is_it {
            $crate::cli::args::lean::Field::fill(&mut $self.$field, $line)?;
            return Some(true);
        }
    };

    // What follows the options, and how many words that must be.
    (@end $field:ident: required = true, num_args = $least:literal.. $($rest:tt)*) => {
        lean!(@end $field if |_, count| count >= $least);
    };
    (@end $field:ident: required = true $($rest:tt)*) => {
        lean!(@end $field if |_, count| count >= 1);
    };
    // Which of them exclude each other, the struct has to say once more.
    (@end $field:ident: required_unless_present = $option:literal $($rest:tt)*) => {
        lean!(@end $field if Self::may_be_followed_by);
    };
    (@end $field:ident if $is_right:expr) => {
        fn end(&mut self, words: &mut Vec<std::ffi::OsString>, at: usize) -> Option<()> {
            let is_right: fn(&Self, usize) -> bool = $is_right;
            if !is_right(self, words.len() - at) {
                return None;
            }
            self.$field = words.split_off(at);
            Some(())
        }
    };
    (@end $field:ident: $($option:tt)*) => {};
}

pub(super) use lean;

#[cfg(test)]
mod tests;
