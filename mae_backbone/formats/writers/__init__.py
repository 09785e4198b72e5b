"""Writers of labeled sets, for `mae-backbone import`: COCO, YOLO, Pascal VOC, label maps, class folders."""
