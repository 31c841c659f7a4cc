import pytest

from aggregator.profile.regions import propose_region, provider_region_of_zone, region_warning


@pytest.mark.parametrize(
    ("code", "region", "jurisdiction"),
    [
        ("eu-west-1", "europe", "eu"),
        ("eu-west-2", "europe", ""),
        ("europe-west6", "europe", ""),
        ("West Europe", "europe", "eu"),
        ("ap-south-1", "asia", ""),
        ("ap-southeast-2", "oceania", ""),
        ("eastasia", "asia", ""),
        ("eastus", "us", ""),
        ("us-gov-west-1", "us-gov", ""),
        ("cn-north-1", "china", ""),
    ],
)
def test_known_codes(code: str, region: str, jurisdiction: str):
    """A provider's code is looked up exactly; being in Europe is not being in the EU."""
    proposal = propose_region(code)
    assert proposal is not None
    assert (proposal.region, proposal.jurisdiction, proposal.exact) == (region, jurisdiction, True)


@pytest.mark.parametrize(
    ("code", "region"), [("eu-west-99", "europe"), ("us-gov-x", "us-gov"), ("us-x", "us")]
)
def test_a_prefix_is_only_a_guess(code: str, region: str):
    """An unknown code is placed by its prefix, and never said to be in the EU."""
    proposal = propose_region(code)
    assert proposal is not None
    assert (proposal.region, proposal.jurisdiction, proposal.exact) == (region, "", False)


@pytest.mark.parametrize("code", ["ap-southeast-99", "rack-7", ""])
def test_what_is_ambiguous_has_no_proposal(code: str):
    """`ap-` is half the world: nothing is proposed."""
    assert propose_region(code) is None


@pytest.mark.parametrize(
    ("zone", "region"),
    [
        ("eu-west-1a", "eu-west-1"),
        ("us-gov-west-1b", "us-gov-west-1"),
        ("us-west-2-lax-1a", "us-west-2"),
        ("europe-west1-b", "europe-west1"),
        ("westeurope-1", "westeurope"),
        ("eastus2-3", "eastus2"),
        ("1", None),
        ("rack-7", None),
    ],
)
def test_zones_belong_to_regions(zone: str, region: str | None):
    """A zone's name holds its provider region, or none."""
    found = provider_region_of_zone(zone)
    assert found == region


def test_a_mismatch_is_warned_of():
    """The operator's word counts; a mismatch with the provider's code is told."""
    assert region_warning("c", "europe", "eu-west-1") is None
    assert region_warning("c", "basement", "rack-7") is None
    assert region_warning("c", "india", "ap-south-1") is None
    assert region_warning("c", "asia", "ap-southeast-2") == (
        "cluster c: region is 'asia', but provider_region 'ap-southeast-2' is in 'oceania'"
    )
