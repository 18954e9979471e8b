"""Which keys darknet reads in each section of a cfg, and its other names of sections and activations."""

from __future__ import annotations

KIND_NAMES = {
    "network": "net",
    "conv": "convolutional",
    "conn": "connected",
    "max": "maxpool",
    "local_avg": "local_avgpool",
    "avg": "avgpool",
    "lrn": "normalization",
    "soft": "softmax",
    "silence": "empty",
}
# revleaky is leaky in the forward pass; silu is what other programs call swish
ACTIVATION_NAMES = {"silu": "swish", "revleaky": "leaky"}

_EVERY_LAYER = (
    "clip onlyforward dont_update burnin_update stopbackward train_only_bn dontload "
    "dontloadscales learning_rate"
)
_YOLO = (
    "classes num mask max max_delta counters_per_class label_smooth_eps scale_x_y "
    "objectness_smooth iou_normalizer obj_normalizer cls_normalizer delta_normalizer iou_loss "
    "iou_thresh_kind beta_nms nms_kind jitter resize ignore_thresh truth_thresh iou_thresh random "
    "map anchors"
)
_RECURRENT = "output hidden activation batch_normalize shortcut"
_KEYS = {
    "net": (
        "max_batches batch learning_rate learning_rate_min sgdr_cycle sgdr_mult momentum decay "
        "subdivisions time_steps track augment_speed sequential_subdivisions try_fix_nan "
        "weights_reject_freq equidistant_point badlabels_rejection_percentage "
        "num_sigmas_reject_badlabels ema_alpha use_cuda_graph loss_scale dynamic_minibatch "
        "optimized_memory workspace_size_limit_MB adam B1 B2 eps height width channels inputs "
        "max_crop min_crop flip blur gaussian_noise mixup cutmix mosaic letter_box mosaic_bound "
        "contrastive contrastive_jit_flip contrastive_color unsupervised label_smooth_eps "
        "resize_step attention adversarial_lr max_chart_loss angle aspect saturation exposure hue "
        "power policy burn_in step scale steps scales seq_scales gamma show_receptive_field"
    ),
    "convolutional": (
        "filters groups size stride stride_x stride_y dilation antialiasing pad padding "
        "activation assisted_excitation share_index batch_normalize cbn binary xnor bin_output "
        "sway rotate stretch stretch_sway flipped dot angle grad_centr reverse coordconv stream "
        "wait_stream"
    ),
    "local": "filters size stride pad activation",
    "activation": "activation",
    "rnn": f"{_RECURRENT} logistic",
    "gru": "output batch_normalize",
    "lstm": "output batch_normalize",
    "crnn": f"{_RECURRENT} size stride dilation pad padding groups xnor",
    "conv_lstm": (
        "size stride dilation pad padding output groups activation batch_normalize xnor peephole "
        "bottleneck state_constrain shortcut lstm_activation time_normalizer"
    ),
    "history": "history_size",
    "connected": "output activation batch_normalize",
    "softmax": "groups temperature tree spatial noloss",
    "contrastive": "classes yolo_layer temperature cls_normalizer max_delta contrastive_neg_max",
    "yolo": (
        f"{_YOLO} show_details new_coords focal_loss track_history_size sim_thresh dets_for_track "
        "dets_for_show track_ciou_norm embedding_layer"
    ),
    "Gaussian_yolo": f"{_YOLO} uc_normalizer yolo_point",
    "region": (
        "coords classes num max log sqrt softmax focal_loss jitter resize rescore thresh classfix "
        "absolute random coord_scale object_scale noobject_scale mask_scale class_scale "
        "bias_match tree map anchors"
    ),
    "detection": (
        "coords classes rescore num side softmax sqrt max coord_scale forced object_scale "
        "noobject_scale class_scale jitter resize random reorg"
    ),
    "cost": "type scale ratio",
    "crop": "crop_height crop_width flip angle saturation exposure noadjust shift",
    "reorg": "stride reverse",
    "reorg3d": "stride reverse",
    "maxpool": (
        "stride stride_x stride_y size padding maxpool_depth out_channels antialiasing maxpool_zero_nonmax"
    ),
    "local_avgpool": "stride stride_x stride_y size padding",
    "avgpool": "",
    "dropout": "probability dropblock dropblock_size_rel dropblock_size_abs",
    "normalization": "alpha beta kappa size",
    "batchnorm": "",
    "shortcut": "activation weights_type weights_normalization from",
    "scale_channels": "from scale_wh activation",
    "sam": "from activation",
    "implicit": "mean std filters atoms",
    "upsample": "stride scale",
    "route": "layers groups group_id stream wait_stream",
    "route_lhalf": "layers",  # WongKinYiu's PyTorch_YOLOv4
    "empty": "",
}
# Every key that darknet's parser.c reads, per section; most of them are for training only.
KEYS: dict[str, frozenset[str]] = {
    kind: frozenset(keys.split()) | (frozenset() if kind == "net" else frozenset(_EVERY_LAYER.split()))
    for kind, keys in _KEYS.items()
}
