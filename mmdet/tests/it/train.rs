//! Runs on good input.

use crate::bad_input::site::Site;

#[test]
fn a_val_workflow_logs_losses_of_the_validation_set_with_the_training_pipeline() {
    let site = Site::new().edit("seed = 3", "seed = 3\nworkflow = [[\"train\", 1], [\"val\", 1]]");
    let ran = site.train(&["--no-validate"]);
    ran.succeeds(&["workflow: [('train', 1), ('val', 1)]", "Epoch(val) [1][3]"]);
    let line = ran.stderr.lines().find(|l| l.contains("Epoch(val)")).unwrap();
    assert!(line.contains("loss_cls: ") && line.contains("loss_bbox: "), "{line}");
}
