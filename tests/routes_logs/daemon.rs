//! Cases that need a process of their own, because they use its global subscriber, as a daemon does.

use crate::{
    added_while_running::disabled_callsites,
    bad_input::values_that_log,
    common::{Helper, helper_arguments},
    routed::Routed,
    spans::verbose_spans,
    threads::threads_that_end,
};
use tracing::dispatcher;

/// Runs one of the cases in such a process.
pub(crate) fn as_a_daemon(case: &str) {
    Helper::start("daemon::helper_is_a_daemon", &[case]).end();
}

#[test]
fn helper_is_a_daemon() {
    let Some(arguments) = helper_arguments() else {
        return;
    };
    let case = match &*arguments[0] {
        "disabled callsites" => disabled_callsites,
        "verbose spans" => verbose_spans,
        "values that log" => values_that_log,
        "threads that end" => threads_that_end,
        other => panic!("{other}"),
    };
    let routed = Routed::alone();
    dispatcher::set_global_default(routed.dispatch()).unwrap();
    case(&routed);
}
