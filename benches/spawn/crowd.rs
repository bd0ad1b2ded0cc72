//! Are as many children at once as the machine carries all served, and is none lost?
#![forbid(unsafe_code)]

use super::bench::Bench;
use super::common::clients::ANSWER;
use super::common::limits;
use super::common::page::Page;
use super::common::rate::Running as _;
use super::common::table::write_csv;
use super::held::hold;
use super::peers::DOORWARD;
use anyhow::Result;
use std::io::Read;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// A check and no measurement: once, doorward alone. Adds a table to `page`, and writes spawn-crowd.csv.
pub fn check(bench: &Bench, page: &mut Page) -> Result<()> {
    let wanted = bench.options.crowd;
    if !bench.options.shared.selects(DOORWARD) || wanted == 0 {
        return Ok(());
    }
    if let Some(obstacle) = limits::obstacle(wanted)? {
        page.miss(format!("{wanted} children at once: {obstacle}"));
        return Ok(());
    }
    let crowd = match serve(bench, wanted) {
        Ok(crowd) => crowd,
        Err(error) => {
            page.miss(format!("**{wanted} children at once: {error:#}**"));
            return Ok(());
        }
    };
    let Crowd { lost, seconds, why } = crowd;
    if lost > 0 {
        page.miss(format!("**{wanted} children at once: {lost} lost; {why}**"));
    }
    page.say("Children at once, each with a connection that is held until the last is served.");
    let row = [
        DOORWARD,
        &format!("{wanted}"),
        &format!("{lost}"),
        &format!("{seconds:.1}"),
    ];
    page.table(
        &["server", "children", "lost", "seconds to start all"],
        &[row.map(str::to_owned).to_vec()],
    );
    write_csv(
        "spawn-crowd.csv",
        &format!("server,children,lost,seconds\n\"{DOORWARD}\",{wanted},{lost},{seconds}\n"),
    )
}

/// What became of them.
struct Crowd {
    lost: usize,
    /// Until all were served.
    seconds: f64,
    /// Some were lost.
    why: String,
}

/// All of them are there at the same time, and each must then end in order.
/// # Errors
/// The server does not even start.
fn serve(bench: &Bench, wanted: usize) -> Result<Crowd> {
    let mut running = bench.start_holding(DOORWARD, wanted + 100)?;
    running.load(1, 0.0)?;
    let server = running.server()?;
    let start = Instant::now();
    let mut connections: Vec<UnixStream> = Vec::new();
    let mut failure = None;
    while connections.len() < wanted && failure.is_none() {
        match hold(server.socket()) {
            Ok(connection) => connections.push(connection),
            Err(error) => failure = Some(error),
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let (answered, children) = (connections.len(), server.children());
    // A child that waits for our end of file has nothing more to say; one that died has closed already.
    for connection in &connections {
        let _ = connection.shutdown(Shutdown::Write);
    }
    let disorderly = |mut connection: UnixStream| {
        let mut more = [0; ANSWER.len()];
        !matches!(connection.read(&mut more), Ok(0))
    };
    let disorderly = connections.into_iter().map(disorderly);
    let disorderly = disorderly.filter(|one| *one).count();
    server.wait_for_children();
    let failure = failure.map_or(String::new(), |error| format!(": {error:#}"));
    Ok(Crowd {
        lost: (wanted - answered.min(children).min(wanted)).max(disorderly),
        seconds,
        why: format!(
            "{answered} answered{failure}, {children} children there, {disorderly} without an orderly end"
        ),
    })
}
