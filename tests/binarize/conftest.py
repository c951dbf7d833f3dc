import networks
import pytest

from bitat_tf._keras import keras


@pytest.fixture(scope="module", params=sorted(networks.NETWORKS))
def network(request):
    keras.utils.set_random_seed(0)
    return networks.trained(networks.NETWORKS[request.param]())
