"""TLS towards the brokers.

Owns the context that connections are made with. Must not know settings.

Invariants: certificates and names are checked, always; no key, password or file content is in any error.
"""

import ssl

from daemon.core.errors import SettingsProblem


def tls_context(
    source: str, ca_file: str | None, certificate_file: str | None, key_file: str | None, key_password: str | None
) -> ssl.SSLContext:
    """Make the context of a source's connections. Raises SettingsProblem for files that cannot be used."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
        if certificate_file is not None:
            # Without a password OpenSSL would ask on the terminal for that of an encrypted key, and wait for ever.
            context.load_cert_chain(certificate_file, key_file, password=key_password or "")
    except (OSError, ValueError) as error:
        files = ", ".join(file for file in (ca_file, certificate_file, key_file) if file is not None)
        raise SettingsProblem(
            f"sources.{source}.security: {files} cannot be used ({type(error).__name__}: {error}); check that each is "
            "readable PEM, and that certificate, key and password belong together"
        ) from error
    return context
