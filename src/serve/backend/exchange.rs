//! A channel that some backend shut down: what it holds goes to the next.
#![forbid(unsafe_code)]

use super::Backend;
use crate::delivery::Channel;
use crate::report::{error, warning};
use std::os::fd::AsFd as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

impl Backend {
    /// Some backend shut the channel down: a new one, with everything that the old one still holds, and new backends.
    pub(super) fn exchange_channel(&mut self, now: Duration) {
        let old = self.handing.channel();
        if !old.is_broken() {
            return;
        }
        let channel = match Channel::new(self.handing.low) {
            Ok(channel) => channel,
            Err(cause) => {
                warning!("unable to make a new channel: {cause}");
                self.handing.broken.store(true, Ordering::SeqCst);
                return;
            }
        };
        error!("a backend shut the channel down; taking back what is queued, and starting anew");
        while let Some(message) = old.take_back() {
            self.returned.push_back(message);
        }
        *self
            .handing
            .channel
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(channel);
        self.queue_returned();
        for index in 0..self.workers.len() {
            self.end(index, now);
        }
        if self.connection.take().is_some() {
            self.connect_at = Some(now + self.backoff.after(Duration::ZERO));
        }
    }

    pub(super) fn queue_returned(&mut self) {
        let channel = self.handing.channel();
        while let Some((payload, descriptors)) = self.returned.front() {
            let descriptors: Vec<_> = descriptors
                .iter()
                .map(|descriptor| descriptor.as_fd())
                .collect();
            if !channel.put_back(payload, &descriptors) {
                return;
            }
            self.returned.pop_front();
        }
    }
}
