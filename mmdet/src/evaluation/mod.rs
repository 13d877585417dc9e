//! COCO AP and VOC mAP.
