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
use anyhow::{Result, bail};
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
    match serve(bench, wanted) {
        Ok(seconds) => {
            page.say(
                "Children at once, each with a connection that is held until the last is served.",
            );
            let row = [
                DOORWARD,
                &format!("{wanted}"),
                "0",
                &format!("{seconds:.1}"),
            ];
            page.table(
                &["server", "children", "lost", "seconds to start all"],
                &[row.map(str::to_owned).to_vec()],
            );
            write_csv(
                "spawn-crowd.csv",
                &format!("server,children,lost,seconds\n\"{DOORWARD}\",{wanted},0,{seconds}\n"),
            )
        }
        Err(error) => {
            page.miss(format!("**{wanted} children at once: {error:#}**"));
            Ok(())
        }
    }
}

/// Seconds until all were served. All of them are there at the same time, and each must then end in order.
fn serve(bench: &Bench, wanted: usize) -> Result<f64> {
    let mut running = bench.start_holding(DOORWARD, wanted + 100)?;
    running.load(1, 0.0)?;
    let server = running.server()?;
    let start = Instant::now();
    let mut connections: Vec<UnixStream> = Vec::new();
    while connections.len() < wanted {
        match hold(server.socket()) {
            Ok(connection) => connections.push(connection),
            Err(error) => bail!("after {}: {error:#}", connections.len()),
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let children = server.children();
    if children < wanted {
        bail!("{wanted} were answered, and {children} children are left");
    }
    // A child that waits for our end of file has nothing more to say; one that died has closed already.
    for connection in &connections {
        connection.shutdown(Shutdown::Write)?;
    }
    for mut connection in connections {
        let mut more = [0; ANSWER.len()];
        if connection.read(&mut more)? != 0 {
            bail!("a child said more than it should");
        }
    }
    server.wait_for_children();
    Ok(seconds)
}
