"""Which region of the fleet a provider's region or zone belongs to: a proposal, never the truth.

The registry's region is the operator's own word. What is proposed here only fills a gap at
onboarding or warns of a mismatch.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

EU = "eu"

# Fleet region → the providers' codes; Amazon's, Google's, Azure's. Geography is not jurisdiction:
# London, Zürich and Oslo are in `europe` but not in the EU.
_EUROPE_IN_EU = """
    eu-west-1 eu-west-3 eu-central-1 eu-north-1 eu-south-1 eu-south-2 eusc-de-east-1
    europe-west1 europe-west3 europe-west4 europe-west8 europe-west9 europe-west10 europe-west12
    europe-north1 europe-north2 europe-central2 europe-southwest1
    northeurope westeurope francecentral francesouth germanywestcentral germanynorth swedencentral
    italynorth polandcentral spaincentral austriaeast belgiumcentral denmarkeast
"""
_REGIONS: Mapping[str, str] = {
    "us": """
        us-east-1 us-east-2 us-west-1 us-west-2
        us-central1 us-east1 us-east4 us-east5 us-south1 us-west1 us-west2 us-west3 us-west4
        eastus eastus2 centralus northcentralus southcentralus westcentralus westus westus2 westus3
    """,
    "us-gov": """
        us-gov-east-1 us-gov-west-1 usgovvirginia usgovarizona usgovtexas usgoviowa
    """,
    "canada": """
        ca-central-1 ca-west-1 northamerica-northeast1 northamerica-northeast2
        canadacentral canadaeast
    """,
    "mexico": "mx-central-1 northamerica-south1 mexicocentral",
    "south-america": """
        sa-east-1 southamerica-east1 southamerica-west1 brazilsouth brazilsoutheast chilecentral
    """,
    "europe": f"""
        {_EUROPE_IN_EU} eu-west-2 eu-central-2 europe-west2 europe-west6
        uksouth ukwest switzerlandnorth switzerlandwest norwayeast norwaywest
    """,
    "middle-east": """
        me-south-1 me-central-1 il-central-1 me-west1 me-central1 me-central2
        uaenorth uaecentral qatarcentral israelcentral
    """,
    "africa": "af-south-1 africa-south1 southafricanorth southafricawest",
    "asia": """
        ap-east-1 ap-east-2 ap-south-1 ap-south-2 ap-northeast-1 ap-northeast-2 ap-northeast-3
        ap-southeast-1 ap-southeast-3 ap-southeast-5 ap-southeast-7
        asia-east1 asia-east2 asia-northeast1 asia-northeast2 asia-northeast3 asia-south1
        asia-south2 asia-southeast1 asia-southeast2
        eastasia southeastasia japaneast japanwest koreacentral koreasouth centralindia southindia
        westindia jioindiawest jioindiacentral indonesiacentral malaysiawest
    """,
    "oceania": """
        ap-southeast-2 ap-southeast-4 ap-southeast-6 australia-southeast1 australia-southeast2
        australiaeast australiasoutheast australiacentral australiacentral2 newzealandnorth
    """,
    "china": """
        cn-north-1 cn-northwest-1
        chinaeast chinaeast2 chinaeast3 chinanorth chinanorth2 chinanorth3
    """,
}

# Only where a prefix is not ambiguous: `ap-southeast-2` is Sydney. Longer prefixes first.
_PREFIXES = (
    ("us-gov-", "us-gov"),
    ("usgov", "us-gov"),
    ("us-", "us"),
    ("europe-", "europe"),
    ("eu-", "europe"),
    ("cn-", "china"),
    ("ca-", "canada"),
    ("sa-", "south-america"),
    ("af-", "africa"),
    ("me-", "middle-east"),
    ("australia", "oceania"),
    ("china", "china"),
)
_AWS_ZONE = re.compile(r"([a-z]+(?:-[a-z]+)+-[0-9])(?:[a-z]|-[a-z]{3}-[0-9][a-z])")
_GOOGLE_ZONE = re.compile(r"([a-z]+-[a-z]+[0-9]+)-[a-z]")
_AZURE_ZONE = re.compile(r"([a-z]{4,}[0-9]?)-[0-9]")


@dataclass(frozen=True, slots=True)
class RegionProposal:
    """The fleet region of a provider's code; `exact` is False if only its prefix is known.

    `jurisdiction` is `eu` for what is certainly in the EU, and empty otherwise.
    """

    region: str
    jurisdiction: str
    exact: bool


def plain_code(code: str) -> str:
    """Return a code as the tables are searched: `West Europe` is `westeurope`."""
    return code.lower().replace(" ", "").replace("-", "")


_BY_CODE: Mapping[str, str] = {
    plain_code(code): region for region, codes in _REGIONS.items() for code in codes.split()
}
_IN_EU = frozenset(plain_code(code) for code in _EUROPE_IN_EU.split())


def propose_region(provider_region: str) -> RegionProposal | None:
    """Return what a provider's region code says about the fleet region, None if nothing."""
    plain = plain_code(provider_region)
    region = _BY_CODE.get(plain)
    if region is not None:
        return RegionProposal(region, EU if plain in _IN_EU else "", exact=True)
    spelled = provider_region.lower().strip()
    for prefix, guess in _PREFIXES:
        if spelled.startswith(prefix):
            return RegionProposal(guess, "", exact=False)
    return None


def provider_region_of_zone(zone: str) -> str | None:
    """Return the provider region of a zone: `eu-west-1a`, `europe-west1-b`, `westeurope-1`.

    None for a zone that names no region, such as Azure's plain `1`.
    """
    for pattern in (_AWS_ZONE, _GOOGLE_ZONE, _AZURE_ZONE):
        match = pattern.fullmatch(zone.lower())
        if match is not None and propose_region(match[1]) is not None:
            return match[1]
    return None


def region_warning(cluster: str, region: str, provider_region: str) -> str | None:
    """Return what to tell the operator if *region* does not fit *provider_region*.

    A region of the operator's own words (`india`) is not held against one of ours (`asia`).
    """
    proposal = propose_region(provider_region)
    if proposal is None or proposal.region == region or region not in _REGIONS:
        return None
    sure = "is in" if proposal.exact else "looks like"
    return (
        f"cluster {cluster}: region is {region!r}, but provider_region {provider_region!r} "
        f"{sure} {proposal.region!r}"
    )
