//! Ops on point clouds, mmcv's for PointNet++ and voxel networks. Coordinates are x, y, z in metres; places are u32. There
//! are no CUDA kernels yet.

mod boxes;
mod gather;
mod iou3d;
mod neighbours;
mod sampling;
mod scatter;
mod voxelize;

pub use boxes::{points_in_boxes_all, points_in_boxes_part, points_in_polygons};
pub use gather::{gather_points, group_points, three_interpolate};
pub use iou3d::{Box3d, boxes_iou_bev, boxes_iou3d, boxes_overlap_bev, nms_normal_3d, nms3d};
pub use neighbours::{ball_query, knn, three_nn};
pub use sampling::{furthest_point_sample, furthest_point_sample_with_dist};
pub use scatter::{VoxelReduce, dynamic_scatter};
pub use voxelize::{VoxelGrid, Voxels, dynamic_voxelize, hard_voxelize};
