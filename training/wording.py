"""How figures and sentences are written in reports."""

from __future__ import annotations

OLD_BUNDLE = "This bundle was written before bundles kept what they were certified on; retrain to see this."


def share_text(value: float | None, interval: tuple[float, float] | None) -> str:
    """Give a share with its interval; a dash where there is none."""
    if value is None or interval is None:
        return "-"
    return f"{value:.1%} ({interval[0]:.1%} to {interval[1]:.1%})"


def part_of(n: int, of: int) -> str:
    """Give n of so many, as a share and as counts."""
    return f"{n / of:.1%} ({n:,} of {of:,})" if of else "- (none)"


def amount(usd: float, signed: bool = False) -> str:
    """Give a sum of money without its unit, in plain decimals: nobody reads 2.9e-06 as a price."""
    size = abs(usd)
    form = ",.0f" if size >= 1000 else ".4g" if size >= 0.0001 else ".6f"
    text = format(usd, ("+" if signed else "") + form)
    return "0" if float(text.replace(",", "")) == 0 else text


def dollars(usd: float) -> str:
    """Give an amount of money."""
    return f"{'-' if usd < 0 else ''}${amount(abs(usd))}"


def counted(n: int, what: str) -> str:
    """Give a number of things: `1 record`, `2 records`."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def four_places(value: float | None) -> str:
    """Give a number; a dash where there is none."""
    return "-" if value is None else f"{value:.4f}"


def shortened(text: str, longest: int = 240) -> str:
    """Give a text, cut off where it is long."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def sentence(text: str) -> str:
    """Give a text as a sentence."""
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
