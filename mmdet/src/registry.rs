//! The kinds of component that detection knows.

use mmcv::register;
use mmcv::registry::registry;

use crate::models::losses::{
    BoxLossConfig, CIoULoss, CrossEntropyLoss, CrossEntropyLossConfig, DIoULoss, FocalLoss, FocalLossConfig, GIoULoss,
    IoULoss, IoULossConfig, L1Loss, L1LossConfig, Loss, MSELoss, MSELossConfig, SmoothL1Loss, SmoothL1LossConfig,
};

registry!(
    /// What a head is trained by.
    pub LOSSES: dyn Loss, ()
);

register!(LOSSES: dyn Loss, "CIoULoss" => CIoULoss(BoxLossConfig));
register!(LOSSES: dyn Loss, "CrossEntropyLoss" => CrossEntropyLoss(CrossEntropyLossConfig));
register!(LOSSES: dyn Loss, "DIoULoss" => DIoULoss(BoxLossConfig));
register!(LOSSES: dyn Loss, "FocalLoss" => FocalLoss(FocalLossConfig));
register!(LOSSES: dyn Loss, "GIoULoss" => GIoULoss(BoxLossConfig));
register!(LOSSES: dyn Loss, "IoULoss" => IoULoss(IoULossConfig));
register!(LOSSES: dyn Loss, "L1Loss" => L1Loss(L1LossConfig));
register!(LOSSES: dyn Loss, "MSELoss" => MSELoss(MSELossConfig));
register!(LOSSES: dyn Loss, "SmoothL1Loss" => SmoothL1Loss(SmoothL1LossConfig));
