//! Wrong command lines and configurations: each is answered with one sentence and status 2.

use super::common::fewstep;

#[test]
fn an_unknown_flag_names_the_nearest() {
    let text = fewstep(["debug", "forward", "--no_such_flag"]).failed(2);
    assert!(
        text.contains("there is no flag --no_such_flag; the nearest is --"),
        "{text}"
    );
}

#[test]
fn every_command_has_help_with_examples() {
    let text = fewstep(["debug", "forward", "--help"]).ok().stdout;
    assert!(text.contains("Examples:\n  fewstep debug forward"), "{text}");
}
