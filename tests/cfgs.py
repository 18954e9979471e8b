"""Small darknet cfgs for tests that read, train, adapt, write and export them."""

NET = "[net]\nbatch=64\nlearning_rate=0.00261\nburn_in=1000\nmomentum=0.9\nwidth=64\nheight=64\nchannels=3\n"
ANCHORS = "6,6, 8,12, 16,16, 30,32"


def net(width: int = 64, height: int = 64, channels: int = 3) -> str:
    return f"[net]\nwidth={width}\nheight={height}\nchannels={channels}\n\n"


def conv(filters: int, size: int = 3, stride: int = 1, activation: str = "leaky", **options: object) -> str:
    given = {"batch_normalize": 1, "filters": filters, "size": size, "stride": stride, "pad": 1, **options}
    lines = [f"{key}={value}" for key, value in {**given, "activation": activation}.items()]
    return "\n".join(["[convolutional]", *lines]) + "\n\n"


def output(filters: int, activation: str = "linear") -> str:
    """The convolution before a head."""
    return f"[convolutional]\nfilters={filters}\nsize=1\nstride=1\npad=1\nactivation={activation}\n\n"


def head(classes: int, mask: str, anchors: str = ANCHORS, kind: str = "yolo", **options: object) -> str:
    given = {
        "mask": mask, "anchors": anchors, "classes": classes, "num": anchors.count(",") // 2 + 1,
        "jitter": 0.3, "ignore_thresh": 0.7, "truth_thresh": 1, "iou_thresh": 0.213, "iou_loss": "ciou",
        "iou_normalizer": 0.07, "cls_normalizer": 1.0, "obj_normalizer": 0.4, "scale_x_y": 1.05, **options,
    }  # fmt: skip
    return "\n".join([f"[{kind}]", *(f"{key}={value}" for key, value in given.items())]) + "\n\n"


def plain_head(classes: int, anchors: str = "10,14, 23,27") -> str:
    """With all its anchors, and nothing that steers training."""
    count = anchors.count(",") // 2 + 1
    mask = ",".join(str(k) for k in range(count))
    return f"[yolo]\nmask={mask}\nanchors={anchors}\nclasses={classes}\nnum={count}\n"


# The second half of the channels before it.
SPLIT = "[route]\nlayers=-1\ngroups=2\ngroup_id=1\n\n"
BODY = conv(8, stride=2) + conv(16, stride=2) + conv(16, stride=2, activation="mish") + conv(32, stride=2)


def tiny(classes: int = 2, start: str = NET, activation: str = "linear", **options: object) -> str:
    """Two heads at strides 16 and 8 that share an anchor, as those of yolov4-tiny.cfg do."""
    maps = output(2 * (5 + classes), activation)
    return (
        f"{start}\n{BODY}{maps}{head(classes, '2,3', **options)}[route]\nlayers=-3\n\n{conv(16, 1)}"
        f"[upsample]\nstride=2\n\n[route]\nlayers=-1,2\n\n{maps}{head(classes, '1,2', **options)}"
    )


def text_of(*parts: str, filters: int = 14) -> str:
    """A backbone, an output of `filters`, and what follows it."""
    return f"{NET}\n{BODY}{output(filters)}{''.join(parts)}"


TINY = tiny()
REGION = text_of(
    "[region]\nanchors=0.4,0.4, 2,2\nclasses=2\nnum=2\ncoords=4\nsoftmax=1\njitter=.2\nthresh=.6\n"
)
GAUSSIAN = text_of(head(2, "2,3", kind="Gaussian_yolo", uc_normalizer=1.0), filters=22)
