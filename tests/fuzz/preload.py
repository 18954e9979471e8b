"""What commands load, loaded once, in a process from which children are forked."""

import cv2  # noqa: F401
import matplotlib.pyplot  # noqa: F401
import skimage.data  # noqa: F401
import sklearn.cluster  # noqa: F401
import supervision  # noqa: F401
import torch  # noqa: F401

import toolkit.ablation.report
import toolkit.ablation.study
import toolkit.cli.find
import toolkit.data.anchors
import toolkit.data.dividing
import toolkit.data.doctor
import toolkit.data.importing
import toolkit.device.package
import toolkit.device.report
import toolkit.evaluation.score
import toolkit.export.ladder
import toolkit.export.write
import toolkit.inference.results
import toolkit.inference.run
import toolkit.networks
import toolkit.training.config
import toolkit.training.loop  # noqa: F401
