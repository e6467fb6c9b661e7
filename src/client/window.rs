//! [`Machine`]: what a circuit breaker decides, as a function of what it was told and of the time.

use std::collections::VecDeque;

/// Outcomes of the last calls: at most so many, and none older than so long.
#[derive(Debug)]
struct Window {
    /// When, in ns, times two; plus 1 if it failed.
    outcomes: VecDeque<u64>,
    failures: usize,
    capacity: usize,
    span_ns: u64,
}

impl Window {
    fn new(capacity: usize, span_ns: u64) -> Self {
        Self { outcomes: VecDeque::with_capacity(capacity), failures: 0, capacity, span_ns }
    }

    fn record(&mut self, now_ns: u64, failed: bool) {
        self.forget_old(now_ns);
        if self.outcomes.len() == self.capacity {
            self.forget_one();
        }
        self.outcomes.push_back(now_ns << 1 | u64::from(failed));
        self.failures += usize::from(failed);
    }

    fn forget_old(&mut self, now_ns: u64) {
        while self.outcomes.front().is_some_and(|outcome| now_ns.saturating_sub(outcome >> 1) >= self.span_ns)
        {
            self.forget_one();
        }
    }

    fn forget_one(&mut self) {
        let failed = self.outcomes.pop_front().unwrap_or(0) & 1;
        self.failures -= usize::from(failed == 1);
    }

    fn clear(&mut self) {
        self.outcomes.clear();
        self.failures = 0;
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rules {
    pub(super) failure_rate: f64,
    pub(super) min_failures: usize,
    pub(super) window_calls: usize,
    pub(super) window_ns: u64,
    pub(super) open_ns: u64,
    pub(super) probes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Closed,
    Open {
        until_ns: u64,
    },
    /// `good` probes in a row have succeeded; while one is under way, all else is refused.
    HalfOpen {
        is_probing: bool,
        good: u32,
    },
}

/// How a call that was let through has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Good,
    Bad,
    /// Says nothing about the other side.
    None,
}

/// The breaker without a clock and without a lock.
#[derive(Debug)]
pub(super) struct Machine {
    rules: Rules,
    phase: Phase,
    /// Counts the phases: what was let through in an earlier one has no say in this one.
    epoch: u64,
    window: Window,
    /// How often it has opened.
    pub(super) opened: u64,
}

impl Machine {
    pub(super) fn new(rules: Rules) -> Self {
        let window = Window::new(rules.window_calls, rules.window_ns);
        Self { rules, phase: Phase::Closed, epoch: 0, window, opened: 0 }
    }

    /// Whether a call may be made now: the epoch to report it with; else in how many ns to ask again.
    pub(super) fn admit(&mut self, now_ns: u64) -> Result<u64, u64> {
        match self.phase {
            Phase::Closed => {}
            Phase::Open { until_ns } if now_ns < until_ns => return Err(until_ns - now_ns),
            Phase::Open { .. } => self.enter(Phase::HalfOpen { is_probing: true, good: 0 }),
            Phase::HalfOpen { is_probing: true, .. } => return Err(self.rules.open_ns),
            Phase::HalfOpen { good, .. } => self.phase = Phase::HalfOpen { is_probing: true, good },
        }
        Ok(self.epoch)
    }

    /// What came of a call that was let through.
    pub(super) fn report(&mut self, now_ns: u64, epoch: u64, verdict: Verdict) {
        if epoch != self.epoch {
            return;
        }
        match (self.phase, verdict) {
            (Phase::Closed, Verdict::None) | (Phase::Open { .. }, _) => {}
            (Phase::Closed, _) => {
                self.window.record(now_ns, verdict == Verdict::Bad);
                if verdict == Verdict::Bad && self.is_too_much() {
                    self.open(now_ns);
                }
            }
            (Phase::HalfOpen { .. }, Verdict::Bad) => self.open(now_ns),
            (Phase::HalfOpen { good, .. }, Verdict::Good) if good + 1 >= self.rules.probes => {
                self.enter(Phase::Closed);
            }
            (Phase::HalfOpen { good, .. }, _) => {
                let good = good + u32::from(verdict == Verdict::Good);
                self.phase = Phase::HalfOpen { is_probing: false, good };
            }
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Calls in the window, and how many of them failed.
    pub(super) fn in_window(&mut self, now_ns: u64) -> (usize, usize) {
        self.window.forget_old(now_ns);
        (self.window.outcomes.len(), self.window.failures)
    }

    fn is_too_much(&self) -> bool {
        let (calls, failures) = (self.window.outcomes.len(), self.window.failures);
        failures >= self.rules.min_failures && failures as f64 >= self.rules.failure_rate * calls as f64
    }

    fn open(&mut self, now_ns: u64) {
        self.opened += 1;
        self.enter(Phase::Open { until_ns: now_ns.saturating_add(self.rules.open_ns) });
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.epoch += 1;
        self.window.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same, as one would say it: everything that ever happened is kept, and looked through each time.
    struct Model {
        rules: Rules,
        /// When the present phase is one that lets calls through: all that was reported in it.
        reported: Vec<(u64, bool)>,
        phase: Phase,
        epoch: u64,
    }

    impl Model {
        fn admit(&mut self, now: u64) -> bool {
            match self.phase {
                Phase::Closed => true,
                Phase::Open { until_ns } => {
                    if now >= until_ns {
                        (self.phase, self.epoch) =
                            (Phase::HalfOpen { is_probing: true, good: 0 }, self.epoch + 1);
                    }
                    now >= until_ns
                }
                Phase::HalfOpen { is_probing, good } => {
                    self.phase = Phase::HalfOpen { is_probing: true, good };
                    !is_probing
                }
            }
        }

        fn report(&mut self, now: u64, epoch: u64, verdict: Verdict) {
            if epoch != self.epoch {
                return;
            }
            let opened = Phase::Open { until_ns: now + self.rules.open_ns };
            match self.phase {
                Phase::Closed if verdict == Verdict::None => {}
                Phase::Closed => {
                    self.reported.push((now, verdict == Verdict::Bad));
                    let last = self.reported.iter().copied().rev().take(self.rules.window_calls);
                    let young = last.filter(|(when, _)| now - when < self.rules.window_ns);
                    let (bad, good): (Vec<_>, Vec<_>) = young.partition(|(_, failed)| *failed);
                    let rate = bad.len() as f64 / (bad.len() + good.len()) as f64;
                    let much = bad.len() >= self.rules.min_failures && rate >= self.rules.failure_rate;
                    if verdict == Verdict::Bad && much {
                        (self.phase, self.epoch, self.reported) = (opened, self.epoch + 1, Vec::new());
                    }
                }
                Phase::Open { .. } => unreachable!("nothing is let through"),
                Phase::HalfOpen { good, .. } => match verdict {
                    Verdict::Bad => (self.phase, self.epoch) = (opened, self.epoch + 1),
                    Verdict::Good if good + 1 == self.rules.probes => {
                        (self.phase, self.epoch, self.reported) = (Phase::Closed, self.epoch + 1, Vec::new());
                    }
                    _ => {
                        let good = good + u32::from(verdict == Verdict::Good);
                        self.phase = Phase::HalfOpen { is_probing: false, good };
                    }
                },
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Wait(u64),
        Ask,
        /// Of the calls under way, which, and how it ends.
        End(usize, Verdict),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            2 => prop_oneof![0_u64..4, 0_u64..60].prop_map(Step::Wait),
            4 => Just(Step::Ask),
            4 => (any::<usize>(), prop_oneof![
                4 => Just(Verdict::Good), 4 => Just(Verdict::Bad), 1 => Just(Verdict::None)
            ]).prop_map(|(which, verdict)| Step::End(which, verdict)),
        ]
    }

    fn rules() -> impl Strategy<Value = Rules> {
        // Rates that are exact in binary: the model divides, the machine multiplies.
        let rates = prop_oneof![Just(0.0), Just(0.25), Just(0.5), Just(0.75), Just(1.0)];
        (rates, 1_usize..6, 1_usize..12, 1_u64..40, 1_u64..30, 1_u32..4).prop_map(
            |(failure_rate, min_failures, window_calls, window_ns, open_ns, probes)| Rules {
                failure_rate,
                min_failures,
                window_calls,
                window_ns,
                open_ns,
                probes,
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]
        #[test]
        fn it_decides_as_a_naive_model_does(rules in rules(), steps in prop::collection::vec(step(), 1..300)) {
            let mut machine = Machine::new(rules);
            let mut model = Model { rules, reported: Vec::new(), phase: Phase::Closed, epoch: 0 };
            let (mut now, mut under_way) = (1_000, Vec::new());
            for step in steps {
                match step {
                    Step::Wait(ns) => now += ns,
                    Step::Ask => {
                        let admitted = machine.admit(now);
                        prop_assert_eq!(admitted.is_ok(), model.admit(now));
                        match admitted {
                            Ok(epoch) => {
                                prop_assert_eq!(epoch, model.epoch);
                                under_way.push(epoch);
                            }
                            Err(again_ns) => prop_assert!((1..=rules.open_ns).contains(&again_ns)),
                        }
                    }
                    Step::End(which, verdict) if !under_way.is_empty() => {
                        let epoch = under_way.swap_remove(which % under_way.len());
                        machine.report(now, epoch, verdict);
                        model.report(now, epoch, verdict);
                    }
                    Step::End(..) => {}
                }
                prop_assert_eq!((machine.phase(), machine.epoch), (model.phase, model.epoch));
                if let Phase::HalfOpen { is_probing, .. } = machine.phase() {
                    let probes = under_way.iter().filter(|epoch| **epoch == machine.epoch).count();
                    prop_assert_eq!(probes, usize::from(is_probing), "one probe, and no other call");
                }
                let counted = machine.window.outcomes.iter().filter(|outcome| **outcome & 1 == 1).count();
                prop_assert_eq!(counted, machine.window.failures);
            }
        }
    }

    #[test]
    fn what_was_let_through_before_it_opened_has_no_say_afterwards() {
        let rules = Rules {
            failure_rate: 0.5,
            min_failures: 2,
            window_calls: 10,
            window_ns: 1_000,
            open_ns: 100,
            probes: 1,
        };
        let mut machine = Machine::new(rules);
        let early: Vec<_> = (0..5).map(|_| machine.admit(0).unwrap()).collect();
        machine.report(1, early[0], Verdict::Bad);
        machine.report(2, early[1], Verdict::Bad);
        assert_eq!(machine.phase(), Phase::Open { until_ns: 102 });
        assert_eq!((machine.admit(3), machine.admit(101)), (Err(99), Err(1)));
        let probe = machine.admit(102).unwrap();
        machine.report(103, early[2], Verdict::Good);
        machine.report(103, early[3], Verdict::Bad);
        assert_eq!(machine.phase(), Phase::HalfOpen { is_probing: true, good: 0 });
        machine.report(104, probe, Verdict::Good);
        machine.report(105, early[4], Verdict::Bad);
        assert_eq!((machine.phase(), machine.in_window(105)), (Phase::Closed, (0, 0)));
    }
}
