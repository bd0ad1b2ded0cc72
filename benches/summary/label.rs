//! Words beside the bars: how wide they are, more or less, and where they break.
#![forbid(unsafe_code)]

/// The most characters of a line that its place holds.
const LONGEST: usize = 27;
/// Pixels of the average character at the size of small text.
pub const CHARACTER: f64 = 5.6;

/// Pixels.
pub fn width(text: &str) -> f64 {
    text.chars().count() as f64 * CHARACTER
}

/// The lines of a label. What has no blank and is too long is cut.
pub fn lines(text: &str) -> Vec<String> {
    let words: Vec<String> = text.split_whitespace().map(cut).collect();
    wrap(&words.join(" "), LONGEST as f64)
}

/// As few lines as hold it, broken at blanks.
pub fn wrap(text: &str, longest: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if (line.chars().count() + 1 + word.chars().count()) as f64 <= longest => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn cut(word: &str) -> String {
    let length = word.chars().count();
    if length <= LONGEST {
        return word.to_owned();
    }
    let end = word.chars().skip(length - (LONGEST - 1));
    std::iter::once('…').chain(end).collect()
}
