"""Settings for the import into OpenSearch Dashboards."""

from __future__ import annotations

from pydantic import Field, SecretStr

from fraud.runtime.settings import ServiceSettings


class Settings(ServiceSettings):
    """How to reach OpenSearch Dashboards."""

    dashboards_url: str = Field("http://127.0.0.1:5601", description="Address of OpenSearch Dashboards.")  # fmt: skip
    dashboards_username: str = Field("", description="User name at OpenSearch Dashboards; empty = no sign-in.")  # fmt: skip
    dashboards_password: SecretStr = Field(SecretStr(""), description="Password at OpenSearch Dashboards.")  # fmt: skip
    dashboards_ca_certs: str = Field("", description="PEM file of its certificate authority; empty = the system's.")  # fmt: skip
    dashboards_wait_s: float = Field(600.0, gt=0, description="How long the import waits for OpenSearch Dashboards, seconds.")  # fmt: skip
