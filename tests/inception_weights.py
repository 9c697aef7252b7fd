"""torch-fidelity's Inception with weights that the tests make."""

import torch


def inception_with_random_weights(file, sharpness=1):
    """torch-fidelity's network with Kaiming weights (its defaults give collapsed features), and their file.

    `sharpness` multiplies the last layer, so that images differ in their classes.
    """
    from unittest import mock

    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    torch.save({}, file)
    with mock.patch("torch.nn.Module.load_state_dict"):
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(file))
    torch.manual_seed(0)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            torch.nn.init.kaiming_normal_(parameter)
    network.fc.weight.data *= sharpness
    torch.save(network.state_dict(), file)
    return network.eval()
