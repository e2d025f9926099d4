"""What the libraries of directories need inside lookupd's jail beyond plain connections: TLS with its files, and a plug-in
that is loaded in the middle of a login."""
import os
import shutil

import pytest

from keepwarm.backend import Backend
from keepwarm.certs import Authority
from keepwarm.directory import at
from keepwarm.directory_real import Mariadb, Postgres, Slapd
from keepwarm.process import free_port

PLUGINS = ("/usr/lib/mysql/plugin/auth_ed25519.so", "/usr/lib/x86_64-linux-gnu/libmariadb3/plugin/client_ed25519.so")


def certificate(server):
    """Files of an authority, a certificate and its key, in the server's folder; their paths."""
    for folder in (server.folder, server.data):
        os.chmod(folder, 0o755)
    authority = Authority(server.data)
    ours = authority.issue("127.0.0.1")
    for path in (ours.path, ours.key_path):
        shutil.chown(path, server.user)
    return authority.path, ours.path, ours.key_path


class TlsSlapd(Slapd):
    def prepare(self):
        super().prepare()
        names = ("TLSCACertificateFile", "TLSCertificateFile", "TLSCertificateKeyFile")
        paths = certificate(self)
        conf = self.data / "conf"
        conf.write_text("".join(f"{name} {path}\n" for name, path in zip(names, paths)) + conf.read_text())
        (self.data / "ldap.conf").write_text(f"TLS_CACERT {paths[0]}\n")

    def settings(self):
        return {**super().settings(), "LDAP_TLS": 1}

    def prefix(self):
        return ("unshare", "--mount", "sh", "-c", f'mount --bind {self.data}/ldap.conf /etc/ldap/ldap.conf && exec "$0" "$@"')


class TlsPostgres(Postgres):
    def prepare(self):
        super().prepare()
        self.authority, path, key = certificate(self)
        with open(self.data / "db/postgresql.conf", "a", encoding="ascii") as file:
            file.write(f"ssl = on\nssl_cert_file = '{path}'\nssl_key_file = '{key}'\n")
        os.chmod(key, 0o600)

    def settings(self):
        plain = super().settings()
        return {**plain, "PGSQL_CONNECTION": f"{plain['PGSQL_CONNECTION']} sslmode=verify-full sslrootcert={self.authority}"}

    def prefix(self):
        return ()


class PluginMariadb(Mariadb):
    needs = (*Mariadb.needs, *PLUGINS)

    def prepare(self):
        super().prepare()
        self.go()
        self.run(["mariadb", "--no-defaults", "-u", "root", "-S", self.data / "sock"],
                 "INSTALL SONAME 'auth_ed25519'; ALTER USER proxy@'%' IDENTIFIED VIA ed25519 USING PASSWORD('proxy');\n")
        self.halt()

    def prefix(self):
        return ()


@pytest.mark.parametrize("kind", [TlsSlapd, TlsPostgres, PluginMariadb], ids=lambda kind: kind.kind)
def test_libraries_have_what_they_need(make, kind):
    if kind.missing():
        pytest.skip(kind.missing())
    host = Backend()
    server = kind([at(host), at(host)])
    try:
        system = make.system(host, directory=[server.place], server_port=free_port(), prefix=server.prefix())
        with system.session():
            pass
    finally:
        server.stop()
        host.stop()
