"""`server.tls`, `auth`, `tenants` and `bundles`: who may do what, how much of it, and which bundles count."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, Strict

from cascade.config import values
from cascade.config.section import Section


class TlsConfig(Section):
    """`server.tls`: PEM files. With `client_ca`, clients must show a certificate that it has signed.

    The files are read again when they change, so that certificates are renewed without a restart.
    """

    cert: values.Text
    key: values.Text
    client_ca: values.Text | None = None


class AuthConfig(Section):
    """`auth`: calls need a bearer key of the file `keys`; `cascade key create` makes one."""

    keys: values.Text


class TenantConfig(Section):
    """`tenants.<name>`: how much one tenant may ask and spend; `default` is for those that are not named.

    The limits hold for all workers of a machine together.
    """

    requests_per_second: Annotated[float, Field(gt=0)] | None = None
    burst: Annotated[int, Field(ge=1)] | None = None
    usd_per_day: Annotated[float, Field(ge=0)] | None = None


class BundlesConfig(Section):
    """`bundles`: with `trusted_keys`, only bundles that one of these public keys has signed are served."""

    trusted_keys: Annotated[tuple[values.Text, ...], Strict(False)] = ()
