//! What can be done to a session from outside, at any time and from any thread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::Notify;

use super::gated::Kill;
use crate::clock::Clock;
use crate::kernel::grant::WallMs;
use crate::kernel::session::EndReason;
use crate::registry::Held;

/// What can be done to a session from outside, at any time and from any thread.
pub struct Control {
    clock: Clock,
    /// Ends both pumps of every channel.
    pub stop: Kill,
    pub reason: OnceLock<EndReason>,
    activity: AtomicU64,
    orders: Mutex<Vec<Order>>,
    pub ordered: Notify,
}

/// What the session's task is asked to do.
#[derive(Debug)]
pub enum Order {
    Warn(u64),
    PolicyEnds(String, u64),
    ClockStep(WallMs, WallMs),
}

impl Control {
    pub fn new(clock: Clock) -> Arc<Control> {
        let activity = AtomicU64::new(clock.now().boot_ms);
        Arc::new(Control {
            clock,
            stop: Kill::new(),
            reason: OnceLock::new(),
            activity,
            orders: Mutex::new(Vec::new()),
            ordered: Notify::new(),
        })
    }

    /// Ends the session; the first reason counts.
    pub fn end_now(&self, reason: EndReason) {
        self.reason.get_or_init(|| reason);
        self.stop.fire();
        self.ordered.notify_one();
    }

    /// Books a byte moving in either direction.
    pub fn active(&self) {
        self.activity.store(self.clock.now().boot_ms, Ordering::Relaxed);
    }

    /// What was ordered since the last time.
    pub fn take_orders(&self) -> Vec<Order> {
        std::mem::take(&mut *self.orders.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn order(&self, order: Order) {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).push(order);
        self.ordered.notify_one();
    }
}

impl Held for Control {
    fn end(&self, reason: EndReason) {
        self.end_now(reason);
    }
    fn warn(&self, ms: u64) {
        self.order(Order::Warn(ms));
    }
    fn policy_ends(&self, rule: &str, ms: u64) {
        self.order(Order::PolicyEnds(rule.to_owned(), ms));
    }
    fn clock_stepped(&self, before: WallMs, after: WallMs) {
        self.order(Order::ClockStep(before, after));
    }
    fn last_activity_boot_ms(&self) -> u64 {
        self.activity.load(Ordering::Relaxed)
    }
}
