"""A broker that wants TLS and a login: the log, the command line and the reactors get in with SAGA_SECURITY, and nobody without."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra.broker import Broker, BrokerUnavailable
from infra.broker.settings import free_ports
from saga.config import Config
from saga.connect import open_log
from saga.errors import Misconfigured, Unavailable
from saga.log.base import Record, TopicPartition, TopicSpec
from saga.log.kafka_security import client_security
from services.checkout.settings import REACTORS
from tests.conftest import temporary_folder
from tests.kafka.test_reactors import wire

PASSWORD = "correct horse"
LOGIN = {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_plain_username": "shop", "sasl_plain_password": PASSWORD}


@dataclass(frozen=True)
class Guarded:
    """`open` takes anybody; `closed` wants TLS and a login. `authority` is the file that vouches for its certificate."""

    open: str
    closed: str
    authority: Path

    def config(self, **security: Any) -> Config:
        given = {"SAGA_BOOTSTRAP": self.closed, "SAGA_TIMEOUT_SECONDS": "4"}
        return Config.read(given | ({"SAGA_SECURITY": json.dumps(security)} if security else {}))


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    with temporary_folder() as folder:
        if shutil.which("keytool") is None:
            pytest.skip("no Kafka broker with TLS: keytool is missing, which comes with Java")
        store, authority = folder / "broker.p12", folder / "authority.pem"
        common = ["-keystore", str(store), "-storepass", "secret", "-alias", "broker"]
        made = [*common, "-genkeypair", "-keyalg", "EC", "-storetype", "PKCS12", "-dname", "CN=broker", "-ext", "san=ip:127.0.0.1"]
        subprocess.run(["keytool", *made], check=True, capture_output=True)
        subprocess.run(["keytool", *common, "-exportcert", "-rfc", "-file", str(authority)], check=True, capture_output=True)
        anybody, closed, controller = free_ports(3)
        places = {"PLAINTEXT": anybody, "CLOSED": closed, "CONTROLLER": controller}
        own = "listener.name.closed"
        more = {
            "listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, port in places.items()),
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,CLOSED:SASL_SSL",
            "inter.broker.listener.name": "PLAINTEXT",
            f"{own}.ssl.keystore.location": str(store),
            f"{own}.ssl.keystore.password": "secret",
            f"{own}.sasl.enabled.mechanisms": "PLAIN",
            f"{own}.plain.sasl.jaas.config": (
                f'org.apache.kafka.common.security.plain.PlainLoginModule required user_shop="{PASSWORD}";'
            ),
        }
        broker = Broker(folder / "kafka", port=anybody, more=more)
        try:
            broker.start()
        except BrokerUnavailable as reason:
            pytest.skip(f"no Kafka broker: {reason}")
        try:
            yield Guarded(f"127.0.0.1:{anybody}", f"127.0.0.1:{closed}", authority)
        finally:
            broker.stop()


class Owner:
    def __init__(self) -> None:
        self.owns: asyncio.Future[frozenset[int]] = asyncio.get_running_loop().create_future()

    def assigned(self, partitions: frozenset[int]) -> None:
        if not self.owns.done():
            self.owns.set_result(partitions)

    async def revoked(self, partitions: frozenset[int]) -> None:
        pass


@pytest.mark.kafka
@pytest.mark.slow
def test_every_kind_of_client_gets_in_with_tls_and_a_login(guarded: Guarded) -> None:
    async def scene() -> None:
        log = open_log(guarded.config(**LOGIN, ssl_cafile=str(guarded.authority)), "test")
        await log.open()
        await log.create([TopicSpec("t", 1, 1, {"message.timestamp.type": "LogAppendTime"})])
        to = TopicPartition("t", 0)
        appended = await in_the_end(log, to)
        assert [record.value async for lump in log.read(to, appended, appended + 1) for record in lump] == [b"x"]
        reader, owner = log.reader(), Owner()
        await reader.assign({to: appended})
        assert [record.value for record in await reader.fetch([to], limit=1, timeout=10)] == [b"x"]
        membership = await log.join("g", "t", owner)
        assert await asyncio.wait_for(owner.owns, 30) == frozenset({0})
        await membership.leave()
        await log.close()

    asyncio.run(scene())


async def in_the_end(log: Any, to: TopicPartition) -> int:
    """Append to a topic that has just been made, once it has a leader; the offset."""
    async with asyncio.timeout(30):
        while True:
            try:
                return int((await log.append(to, [Record(None, b"x")])).offset)
            except Unavailable:
                await asyncio.sleep(0.1)


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.parametrize(
    "security",
    [
        pytest.param({}, id="plain text"),
        pytest.param(LOGIN, id="a certificate nobody vouches for"),
        pytest.param({**LOGIN, "sasl_plain_password": "wrong", "ssl_cafile": ""}, id="a wrong password"),
    ],
)
def test_nobody_gets_in_without(guarded: Guarded, security: dict[str, Any]) -> None:
    async def scene() -> None:
        trusted = {**security, "ssl_cafile": str(guarded.authority)} if "ssl_cafile" in security else security
        log = open_log(guarded.config(**trusted), "test")
        with pytest.raises(Unavailable, match="SAGA_SECURITY") as refused:
            await log.open()
        assert PASSWORD not in str(refused.value)
        await log.close()

    asyncio.run(scene())


@pytest.mark.kafka
@pytest.mark.slow
def test_the_reactors_get_in_too(guarded: Guarded, tmp_path: Path) -> None:
    async def scene() -> None:
        security = json.dumps({**LOGIN, "ssl_cafile": str(guarded.authority)})
        async with wire(tmp_path, guarded.open, SAGA_BOOTSTRAP=guarded.closed, SAGA_SECURITY=security) as at:
            await at.tell(range(20))
            at.start(*REACTORS)

            async def all_there() -> bool:
                return await at.counted() == 20 and len(at.mails()) == 20

            await at.until(all_there, "not everything has arrived")

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("security", "says"),
    [
        ({"sasl_password": "x"}, "sasl_password is not known"),
        ({"security_protocol": "TLS"}, "security_protocol must be one of"),
        ({"sasl_plain_username": "shop", "sasl_plain_password": PASSWORD}, "nobody would log in"),
        ({"security_protocol": "SASL_PLAINTEXT", "ssl_cafile": "ca.pem"}, "nothing would be encrypted"),
        ({"security_protocol": "SASL_SSL", "sasl_plain_username": "shop"}, "PLAIN needs sasl_plain_password"),
        ({**LOGIN, "sasl_mechanism": "SCRAM"}, "sasl_mechanism must be one of"),
        ({**LOGIN, "sasl_mechanism": "OAUTHBEARER"}, "OAUTHBEARER needs sasl_oauth_token_provider"),
        ({"security_protocol": "SSL", "ssl_cafile": "/no/such/file"}, "the ssl_… files cannot be used"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_anything_is_sent(security: dict[str, Any], says: str) -> None:
    with pytest.raises(Misconfigured, match=says) as refused:
        client_security(security)
    assert PASSWORD not in str(refused.value)


def test_what_fits_is_what_aiokafka_takes() -> None:
    assert client_security({}) == {}
    made = client_security(LOGIN)
    assert made.pop("ssl_context").check_hostname
    assert made == LOGIN
    kerberos = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "GSSAPI", "sasl_kerberos_service_name": "k"}
    assert client_security(kerberos) == kerberos


@pytest.mark.parametrize("text", [f'{{"sasl_plain_password": "{PASSWORD}"', f'["{PASSWORD}"]'])
def test_a_setting_that_cannot_be_read_is_refused_without_telling_its_secrets(text: str) -> None:
    with pytest.raises(Misconfigured, match="SAGA_SECURITY is no JSON object") as refused:
        Config.read({"SAGA_SECURITY": text})
    assert PASSWORD not in str(refused.value)
