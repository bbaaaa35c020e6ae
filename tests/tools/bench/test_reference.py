import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from distill_lib.tools.bench import reference
from distill_lib.training.contrastive import nt_xent
from distill_lib.vision.encoders import MEAN, STD
from distill_lib.vision.triggers import Patch, corner_patch


def test_the_view_is_torchvisions_simclr_view():
    jitter = transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)
    simclr = transforms.Compose(
        [
            transforms.RandomResizedCrop(32, scale=(0.2, 1.0)),
            transforms.RandomHorizontalFlip(0.5),
            transforms.RandomApply([jitter], p=0.8),
            transforms.RandomGrayscale(0.2),
            transforms.ToTensor(),
            transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
        ]
    )
    assert repr(reference.simclr_view()) == repr(simclr)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    views = []
    for transform in (simclr, reference.simclr_view()):
        torch.manual_seed(3)
        views.append(torch.stack([transform(image) for _ in range(8)]))
    assert torch.equal(*views)


def test_two_views_of_an_image_differ():
    torch.manual_seed(0)
    one, two = reference.TwoViews(torch.randint(256, (1, 3, 32, 32), dtype=torch.uint8))[0]
    assert one.shape == two.shape == (3, 32, 32)
    assert not torch.equal(one, two)


@pytest.mark.parametrize("trigger", [corner_patch(), Patch(4, 1, 2, (0, 0, 255))])
def test_an_item_of_badencoder_holds_the_librarys_trigger(trigger):
    images = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8)
    dataset = reference.Backdoored(images, images[:2], *reference.stamp_of(trigger))
    clean, triggered, references, views = dataset[2]
    back = lambda x: (x * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)) * 255  # noqa: E731
    torch.testing.assert_close(back(clean), images[2].float(), atol=1e-3, rtol=0)
    torch.testing.assert_close(back(triggered), trigger(images[2:])[0].float(), atol=1e-3, rtol=0)
    torch.testing.assert_close(back(references[1]), images[1].float(), atol=1e-3, rtol=0)
    assert len(references) == len(views) == 2


def test_the_masked_exponentials_are_nt_xent():
    one, two = torch.randn(2, 6, 9, generator=torch.Generator().manual_seed(0))
    assert reference.contrastive(one, two, 0.5).item() == pytest.approx(nt_xent(one, two, 0.5).item(), rel=1e-5)


def test_the_network_is_the_encoder_without_its_normalisation(tiny):
    encoder = tiny.fresh().eval()
    network = reference.Network(encoder).eval()
    images = torch.rand(2, 3, 32, 32)
    normalised = (images - encoder.mean) / encoder.std
    torch.testing.assert_close(network(normalised), encoder(images), atol=1e-5, rtol=1e-5)
    assert all(p.is_contiguous() for p in network.parameters())
    with torch.no_grad():
        next(network.parameters()).zero_()
    assert next(encoder.parameters()).abs().sum() > 0  # its weights are its own


@pytest.mark.parametrize("workers", [0, 1])
def test_the_loader_makes_more_batches_than_the_timed_steps_use(workers):
    seen = []
    dataset = reference.TwoViews(torch.zeros(6, 3, 32, 32, dtype=torch.uint8))
    run = reference.in_loader(dataset, 4, workers, torch.device("cpu"), lambda batch: seen.append(batch[0].shape))
    assert run(3) > 0
    assert seen == [(4, 3, 32, 32)] * (2 + 3)  # two to warm up: more images than the set has come round again


def test_the_head_loop_trains_on_every_image_at_each_epoch():
    head, sizes = torch.nn.Linear(3, 2), []
    bank = torch.utils.data.TensorDataset(torch.randn(10, 3), torch.arange(10) % 2)
    before = head.weight.detach().clone()

    def features(inputs):
        sizes.append(len(inputs))
        return inputs

    loader = {"batch_size": 4, "num_workers": 0}
    assert reference.head_loop(bank, features, head, 1e-2, loader)(2) > 0
    assert sizes == [4, 4, 2] * 2
    assert not torch.equal(head.weight, before)
