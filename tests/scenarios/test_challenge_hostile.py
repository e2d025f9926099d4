"""A taken-over session process and challenges: it cannot say that it was verified, nor use another one's conversation."""
import pytest

from keepwarm import challenge
from keepwarm.challenge import OFFERED, Scram
from keepwarm.directory import Passwords
from keepwarm.messages import REFUSAL_ATTEMPTS, session
from keepwarm.scene import Scene

CRAM_MD5, SCRAM_SHA_256, EXTERNAL = 16, 256, 512  # enum sasl_mechanism
CONTINUES, ACCEPTED, REFUSED, UNAVAILABLE = range(1, 5)  # enum msg_auth
VERIFIED = 4  # enum msg_proof


@pytest.fixture
def scene(make):
    backend = make.backend()
    table = Passwords(backend, **{user: (f"pw-{user}", "") for user in ("mallory", "victim", "bystander", "later")})
    make.started.append(table)
    kept, make.backend = make.backend, lambda: backend
    scene = Scene(make, directory=[table], auth_mechanisms=OFFERED)
    make.backend = kept
    return scene


def step(peer, conversation=0, mechanism=CRAM_MD5, data=b"", **more):
    return peer.request("AUTH_STEP", conversation=conversation, mechanism=mechanism, data=data, **more)


def verify(peer, user="mallory", password=None):
    """A conversation that ends well."""
    first = step(peer)
    assert first.status == CONTINUES, first
    last = step(peer, first.conversation, CRAM_MD5,
                challenge.cram_answer("CRAM-MD5", user, password or f"pw-{user}", first.data))
    assert (last.status, last.user) == (ACCEPTED, user.encode()), last
    return last


def lease(peer, user="mallory", **more):
    return peer.request("LEASE", proof_kind=VERIFIED, user=user, **more)


# --- what costs it its link ----------------------------------------------------------------------------------
def verified_without_a_conversation(peer):
    peer.push("LEASE", serial=9, proof_kind=VERIFIED, user="victim")


def verified_in_the_middle_of_one(peer):
    step(peer)
    peer.push("LEASE", serial=9, proof_kind=VERIFIED, user="victim")


def verified_after_a_wrong_answer(peer):
    first = step(peer)
    assert step(peer, first.conversation, CRAM_MD5, b"victim " + b"0" * 32).status == REFUSED
    peer.push("LEASE", serial=9, proof_kind=VERIFIED, user="victim")


def verified_when_another_one_has_begun(peer):
    verify(peer)
    step(peer)
    peer.push("LEASE", serial=9, proof_kind=VERIFIED, user="mallory")


def verified_by_its_own_word(peer):
    first = step(peer, status=ACCEPTED, user="victim")
    assert first.status == CONTINUES
    peer.push("AUTH_STEP", serial=8, conversation=first.conversation, mechanism=CRAM_MD5, status=ACCEPTED, user="victim")
    peer.receive()
    peer.push("LEASE", serial=9, proof_kind=VERIFIED, user="victim")


def verified_with_an_authzid(peer):
    verify(peer)
    peer.push("LEASE", serial=9, proof_kind=VERIFIED, user="mallory", authzid="victim")


def verified_with_a_secret(peer):
    verify(peer)
    peer.push("LEASE", serial=9, proof_kind=VERIFIED, user="mallory", secret="x")


def a_conversation_that_there_is_not(peer):
    peer.push("AUTH_STEP", serial=9, conversation=4711, mechanism=CRAM_MD5, data=b"x")


def a_conversation_that_is_over(peer):
    first = step(peer)
    step(peer, first.conversation, CRAM_MD5, b"x")
    peer.push("AUTH_STEP", serial=9, conversation=first.conversation, mechanism=CRAM_MD5, data=b"x")


def another_mechanism_in_the_middle(peer):
    first = step(peer)
    peer.push("AUTH_STEP", serial=9, conversation=first.conversation, mechanism=SCRAM_SHA_256, data=b"x")


def a_step_without_a_serial(peer):
    peer.push("AUTH_STEP", mechanism=CRAM_MD5)


def a_step_behind_a_lease(peer):
    verify(peer)
    assert lease(peer).name == "LEASED"
    peer.push("AUTH_STEP", serial=9, mechanism=CRAM_MD5)


@pytest.mark.parametrize("act", [
    verified_without_a_conversation, verified_in_the_middle_of_one, verified_after_a_wrong_answer,
    verified_when_another_one_has_begun, verified_by_its_own_word, verified_with_an_authzid, verified_with_a_secret,
    a_conversation_that_there_is_not, a_conversation_that_is_over, another_mechanism_in_the_middle,
    a_step_without_a_serial, a_step_behind_a_lease], ids=lambda act: act.__name__)
def test_a_session_is_cut_off_for(scene, act):
    before = scene.system.counter("bad_messages")
    with session(scene.system) as peer:
        act(peer)
        peer.expect_cut_off()
    scene.check(bad=before + 1)
    assert "victim" not in [it.user for it in scene.backend.logins]


def test_two_steps_at_once_cut_it_off(scene):
    """The second comes while a worker has the first, or behind its answer, when it is of no conversation."""
    with session(scene.system) as peer:
        peer.push("AUTH_STEP", serial=1, mechanism=CRAM_MD5)
        peer.push("AUTH_STEP", serial=2, conversation=1, mechanism=CRAM_MD5)
        while peer.sock.recv(12288):
            pass
    scene.check()


def test_the_conversation_of_another_client_is_out_of_reach(scene):
    system = scene.system
    with session(system) as mallory, system.client() as client:
        talk = Scram("SCRAM-SHA-256", "victim", "pw-victim")
        tag = challenge.begin(client, "SCRAM-SHA-256", talk.first())
        said = challenge.prompt(client, tag)
        mine = step(mallory, mechanism=SCRAM_SHA_256, data=b"n,,n=mallory,r=x")
        # the numbers are 54 random bits and the place in the table: with all of the latter it hits none
        place = mine.conversation % 1024
        mallory.push("AUTH_STEP", serial=99, conversation=mine.conversation - place + (place - 1) % 1024,
                     mechanism=SCRAM_SHA_256, data=talk.final(said))
        mallory.expect_cut_off()
        challenge.say(client, talk.final(said))
        assert challenge.prompt(client, tag).startswith(b"v=")
        client.send("\r\n")
        assert client.reply(tag).ok


def test_the_broker_believes_the_worker_about_the_name(scene):
    with session(scene.system) as peer:
        verify(peer)
        reply = lease(peer, user="victim")
        assert reply.name == "LEASED" and reply.backend_user == b"mallory", reply
    assert [it.user for it in scene.backend.logins][-1] == "mallory"


def test_after_a_login_only_the_same_account_again(scene):
    """Also one that is verified, whose password is known: it is another account."""
    with session(scene.system) as peer:
        verify(peer)
        assert lease(peer).name == "LEASED"
        peer.push("OUTCOME", outcome=4)  # stale: back to where it can ask again, made or not
        reply = None
        try:
            verify(peer, "victim")
            reply = lease(peer, "victim")
        except AssertionError:
            pass  # cut off: as good
        assert reply is None or (reply.name, reply.reason) == ("REFUSED", REFUSAL_ATTEMPTS), reply
    assert "victim" not in [it.user for it in scene.backend.logins]


@pytest.mark.parametrize("mechanism", [0, 1, EXTERNAL, CRAM_MD5 | SCRAM_SHA_256, 0xffffffff])
def test_what_is_no_mechanism_begins_nothing(scene, mechanism):
    with session(scene.system) as peer:
        assert step(peer, mechanism=mechanism).status == UNAVAILABLE
    scene.check()


def test_guesses_are_counted_over_all_conversations(scene):
    with session(scene.system) as peer:
        for _ in range(3):
            first = step(peer)
            assert step(peer, first.conversation, CRAM_MD5, b"victim " + b"0" * 32).status == REFUSED
        reply = step(peer)
        assert (reply.name, reply.reason) == ("REFUSED", REFUSAL_ATTEMPTS)
    scene.check()
