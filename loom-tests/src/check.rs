//! Running a model, and demanding that it fails.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ringwire::sync::Counter;

/// Preemptions explored unless `LOOM_MAX_PREEMPTIONS` says otherwise.
const PREEMPTIONS: usize = 3;
/// Steps of one execution, beyond which it counts as endless.
const STEPS: usize = 10_000;

/// How loom sees a model fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Somebody sleeps for ever: a lost wake-up.
    Deadlock,
    /// Two threads touch the same bytes with nothing in between.
    Race,
    /// What was received is not what was sent, or one side took the other for broken.
    Assertion,
    /// An execution goes on for ever.
    Livelock,
}

impl Failure {
    fn of(panic: &(dyn Any + Send)) -> (Self, &str) {
        let text =
            panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
        let text = text.unwrap_or("a panic without a message");
        let kind = match text {
            _ if text.starts_with("deadlock") => Self::Deadlock,
            _ if text.contains("Causality violation") => Self::Race,
            _ if text.contains("exceeded maximum number of branches") => Self::Livelock,
            _ => Self::Assertion,
        };
        (kind, text)
    }
}

/// Runs `model` in every way there is.
///
/// # Panics
/// If one of them fails.
pub fn check(model: impl Fn() + Send + Sync + 'static) {
    let executions = Arc::new(Counter::default());
    explore(&executions, model);
    println!("{} executions", executions.get());
}

/// Runs `model` until it fails as `expected`.
///
/// # Panics
/// If it fails in another way, or not at all.
pub fn must_fail(expected: Failure, model: impl Fn() + Send + Sync + 'static) {
    let executions = Arc::new(Counter::default());
    let end = catch_unwind(AssertUnwindSafe(|| explore(&executions, model)));
    let executions = executions.get();
    assert!(end.is_err(), "no execution fails ({executions} executions)");
    let panic = end.unwrap_err();
    let (failure, text) = Failure::of(&*panic);
    println!("execution {executions}: {failure:?}: {text}");
    assert_eq!(failure, expected, "fails, but in another way: {text}");
}

fn explore(executions: &Arc<Counter>, model: impl Fn() + Send + Sync + 'static) {
    let executions = Arc::clone(executions);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(PREEMPTIONS));
    builder.max_branches = builder.max_branches.max(STEPS);
    builder.check(move || {
        executions.add(1);
        model();
    });
}
