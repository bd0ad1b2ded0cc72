//! A shell as a client with notifications: it talks to the example `watch` on 6 and 7, and hears on 8 what others do.

use crate::connect::{connect, script};
use crate::library::example;
use crate::support::{Door, Served, User, doorward};

fn watch() -> Served {
    Door::new().command("handoff").serve([example("watch")])
}

/// `doorward connect --notify PATH sh -c TEXT`.
#[track_caller]
fn shell(door: &Served, text: &str) -> Vec<String> {
    let options = ["--notify", "--connect-timeout", "20"];
    script(connect(&door.socket(), options), text)
}

#[test]
fn a_shell_hears_events_on_8_while_it_talks_on_6_and_7() {
    let door = watch();
    let me = User::me().uid;
    let (program, socket) = (doorward().display(), door.socket());
    let socket = socket.display();
    let text = format!(
        r#"
        ask() {{ echo "$1" >&7; read -r answer <&6; echo "$1: $answer"; }}
        ask "who"
        ask "watch lamp"
        {program} connect --notify {socket} sh -c 'echo set lamp on >&7; read -r answer <&6' || exit
        read -r event <&8; echo "event: $event"
        ask "get lamp"
        ask "set lamp off"
        read -r event <&8; echo "event: $event"
        "#
    );
    let expected = [
        format!("who: ok {me}"),
        "watch lamp: ok".to_owned(),
        format!("event: changed lamp {me} on"),
        "get lamp: ok on".to_owned(),
        "set lamp off: ok".to_owned(),
        format!("event: changed lamp {me} off"),
    ];
    assert_eq!(shell(&door, &text), expected);
}

#[test]
fn a_reader_in_the_background_hears_everything_up_to_the_end() {
    let door = watch();
    let me = User::me().uid;
    // The end of the connection ends the client at the service, and with it the events.
    let text = r#"
        cat <&8 6<&- 7>&- & reader=$!
        for command in 'watch lamp' 'set lamp on' 'del lamp'; do
            echo "$command" >&7; read -r answer <&6
        done
        exec 6<&- 7>&- 8<&-
        wait "$reader"
    "#;
    let expected = [
        format!("changed lamp {me} on"),
        format!("removed lamp {me}"),
    ];
    assert_eq!(shell(&door, text), expected);
}
