"""submit: pull requests on a Hub of our own, branches on git remotes, and everything that can go wrong on the way.

The Hub is trusted only as far as huggingface_hub is: test_hub_client.py drives it with the real one."""
import http.server, json, os, pathlib, re, shutil, signal, subprocess, threading, time, unittest

from hub_server import Answer, Hub, git, parse_pointer
from support import BINARY, DatasetTest, run, tree, unpack, workloads

DECODE = "gqa_paged_decode_h32_kv8_d128_ps1"
LINES = f"workloads/gqa_paged/{DECODE}.jsonl"
REPO = "flashinfer-ai/flashinfer-trace"
TOKEN = "hf_writer"


class SubmitTest(DatasetTest):
    def setUp(self):
        super().setUp()
        self.sanitize(unpack("sglang-0.5.17-llama-ps1", self.folder))
        self.hub = Hub(self.folder / "hub")
        self.addCleanup(self.hub.close)
        self.repo = self.hub.repo(REPO)
        self.repo.add({"README.md": b"# traces\n", ".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"})
        self.outputs = ""

    def environment(self, token=TOKEN, **more):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
        env |= {"HOME": str(self.folder / "home"), "HF_ENDPOINT": self.hub.url, "XDG_STATE_HOME": str(self.folder / "state"),
                "XDG_CACHE_HOME": str(self.folder / "cache"), "TMPDIR": str(self.folder / "tmp"),
                "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_AUTHOR_NAME": "u", "GIT_AUTHOR_EMAIL": "u@example.org",
                "GIT_COMMITTER_NAME": "u", "GIT_COMMITTER_EMAIL": "u@example.org"}
        (self.folder / "tmp").mkdir(exist_ok=True)
        if token: env["HF_TOKEN"] = token
        return env | more

    def submit(self, *options, check=0, token=TOKEN, env={}, trace=None):
        result = run("submit", "--trace-dir", trace or self.trace, "--allow-unverified", *options, check=check,
                     env=self.environment(token, **env))
        self.outputs += result.stdout + result.stderr
        # Never, in anything, whatever happens.
        if token: self.assertNotIn(token, self.outputs)
        self.assertNotIn("signature=", self.outputs)
        self.assertEqual(self.hub.foreign_tokens, [])
        # Nothing half done stays behind.
        if not any(path.name.startswith("collect-workloads-") for path in (self.folder / "tmp").iterdir() if (path / "clone/.git").exists()):
            self.assertEqual(list((self.folder / "tmp").iterdir()), [])
        return result

    def submit_json(self, *options, **more):
        return json.loads(self.submit("--json", *options, **more).stdout)

    def operations(self):
        return [request["operation"] for request in self.hub.requests]

    def check_out(self, revision, name):
        """The revision as git-lfs would lay it out."""
        folder = self.folder / name
        for path, (oid, _) in self.repo.tree(revision).items():
            content = self.repo.content(oid)
            if found := parse_pointer(content): content = (self.repo.lfs / found[0]).read_bytes()
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        return folder

    def check_pull_request(self, number=1, count=1, trace=None):
        """It is there once, whole and valid: the dataset's workloads and no others."""
        self.assertEqual(len(self.repo.discussions), count)
        merged = self.check_out(f"refs/pr/{number}", f"pr{number}-{time.monotonic_ns()}")
        run("validate", "--trace-dir", merged, check=0)
        self.assertEqual({n: [w["uuid"] for w in items] for n, items in workloads(merged).items()},
                         {n: [w["uuid"] for w in items] for n, items in workloads(trace or self.trace).items()})
        return merged

    def test_a_pull_request(self):
        result = self.submit_json()
        self.assertEqual(result["pull_request"], 1)
        self.assertEqual(result["url"], f"{self.hub.url}/datasets/{REPO}/discussions/1")
        merged = self.check_pull_request()
        # Only what has workloads goes in, and main is as it was.
        self.assertEqual({p.stem for p in (merged / "definitions").rglob("*.json")}, set(workloads(self.trace)))
        self.assertEqual(set(self.repo.tree("main")), {"README.md", ".gitattributes"})
        discussion = self.repo.discussions[0]
        self.assertRegex(discussion["title"], r"^Add \d+ workloads for \d definitions \(.*gqa_paged.*\).*\[[0-9a-f]{12}\]$")
        for words in ("## Summary", "## Collection details", "## Definitions", "## Statistics", "## Checklist", DECODE,
                      "- [x] `collect-workloads validate`", "- [ ] flashinfer-bench's loader", "0.6.15.post1", "sm_scale"):
            self.assertIn(words, discussion["description"])

    def test_again_adds_nothing(self):
        first = self.submit_json()
        refs = git(self.repo.git, "for-each-ref")
        again = self.submit_json()
        self.assertTrue(again["was_there"])
        self.assertEqual((again["pull_request"], again["url"]), (1, first["url"]))
        self.assertEqual(git(self.repo.git, "for-each-ref"), refs)
        # Merged, it is no news at all.
        self.repo.move("refs/heads/main", self.repo.head("refs/pr/1"))
        result = self.submit(check=3)
        self.assertIn("Nothing is new", result.stdout)
        self.assertEqual(len(self.repo.discussions), 1)

    def test_only_what_is_new(self):
        self.submit_json("--definition-name", DECODE)
        self.repo.move("refs/heads/main", self.repo.head("refs/pr/1"))
        lines = self.repo.content(self.repo.tree("main")[LINES][0]).decode().splitlines()
        # Main has one of them no more, another without the last newline, a third under an id of its own and a stranger.
        foreign = json.loads(lines[1]); foreign["workload"]["uuid"] = "00000000-foreign"
        stranger = json.loads(lines[2]); stranger["workload"]["uuid"] = "stranger"; stranger["workload"]["inputs"]["sm_scale"]["value"] = 0.25
        main = [json.dumps(foreign), *lines[2:], json.dumps(stranger)]
        self.repo.add({LINES: "\n".join(main).encode()})
        result = self.submit_json("--definition-name", DECODE)
        self.assertEqual(result["definitions"], {DECODE: {"new": 1, "there_already": len(lines) - 1, "undecided": 0}})
        self.assertEqual([f["path"] for f in result["files"]][-1], LINES)
        self.assertEqual(self.repo.content(self.repo.tree("refs/pr/2")[LINES][0]).decode().splitlines(), [*main, lines[0]])
        self.assertEqual(set(self.repo.tree("refs/pr/2")), set(self.repo.tree("main")))

    def test_more_to_the_same_pull_request(self):
        self.submit_json("--definition-name", DECODE)
        result = self.submit_json("--pr", "1")
        self.check_pull_request()
        self.assertEqual(int(git(self.repo.git, "rev-list", "--count", "main..refs/pr/1")), 2)
        again = self.submit_json("--pr", "1")
        self.assertEqual((again["was_there"], again["pull_request"]), (True, 1))
        self.assertIn("has no pull request 7", " ".join(self.submit("--pr", "7", check=1).stderr.split()))

    def test_what_main_got_meanwhile_is_not_added_to_a_pull_request(self):
        self.submit_json("--definition-name", DECODE)
        self.submit_json("--op-type", "rmsnorm")
        self.repo.move("refs/heads/main", self.repo.head("refs/pr/2"))
        result = self.submit_json("--pr", "1")
        self.assertEqual({n for n, d in result["definitions"].items() if d["new"]},
                         set(workloads(self.trace)) - {"rmsnorm_h4096", "fused_add_rmsnorm_h4096"})
        self.assertFalse(any("rmsnorm" in path for path in self.repo.tree("refs/pr/1")))

    def test_another_open_pull_request_is_named(self):
        self.submit_json("--definition-name", DECODE)
        self.assertIn("discussions/1 (--pr 1", self.submit().stderr)

    def test_paths_of_others_lead_nowhere(self):
        """Neither answers nor lines of the other side make us write outside our own folder."""
        self.submit_json("--definition-name", DECODE)
        self.repo.move("refs/heads/main", self.repo.head("refs/pr/1"))
        lines = [json.loads(line) for line in self.repo.content(self.repo.tree("main")[LINES][0]).decode().splitlines()]
        victim = self.folder / "victim"
        victim.write_text("precious")
        for path in (str(victim), "../../victim", "../" * 9 + str(victim)[1:]):
            for line in lines:
                line["workload"]["uuid"] = "other" + line["workload"]["uuid"]
                for item in line["workload"]["inputs"].values():
                    if item["type"] == "safetensors": item["path"] = path
            self.repo.add({LINES: "".join(json.dumps(line) + "\n" for line in lines).encode()})
            # Ours cannot be compared with them, and are new as far as one can tell.
            result = self.submit_json("--dry-run", "--definition-name", DECODE)
            self.assertGreater(result["definitions"][DECODE]["undecided"], 0)
            self.assertIn("- [ ] Compared with", result["description"])
        self.tearDownHub()
        def answer(hub, handler, body):
            raise Answer(200, json.dumps([{"type": "file", "path": path, "oid": "0" * 40, "size": 3} for path in (str(victim), "../../victim")]).encode())
        self.hub.faults = {"paths_info": [answer]}
        self.submit("--dry-run")
        # Nor does a server that forgets a file make us replace it.
        self.repo.add({LINES: (json.dumps(lines[0]) + "\n").encode()})
        self.hub.faults = {"paths_info": [lambda hub, handler, body: (_ for _ in ()).throw(Answer(200, b"[]"))]}
        self.assertIn("contradicts itself", self.submit(check=1).stderr)
        self.hub.faults = {"resolve": [lambda hub, handler, body: (_ for _ in ()).throw(Answer(404, b"", {"X-Error-Code": "EntryNotFound"}))]}
        self.assertIn("does not return it", self.submit(check=1).stderr)
        self.assertEqual(victim.read_text(), "precious")

    def test_a_definition_at_another_place_there(self):
        definition = (self.trace / f"definitions/gqa_paged/{DECODE}.json").read_bytes()
        self.repo.add({f"definitions/other/{DECODE}.json": definition, **{f"definitions/x/{i}.json": b"{}" for i in range(20)}})
        self.assertIn("has to be moved", " ".join(self.submit(check=1).stderr.split()))

    def test_one_id_with_other_content_there(self):
        self.submit_json("--definition-name", DECODE)
        self.repo.move("refs/heads/main", self.repo.head("refs/pr/1"))
        lines = [json.loads(line) for line in self.repo.content(self.repo.tree("main")[LINES][0]).decode().splitlines()]
        lines[0]["workload"]["inputs"]["sm_scale"]["value"] = 0.25
        self.repo.add({LINES: "".join(json.dumps(line) + "\n" for line in lines).encode()})
        self.assertIn(lines[0]["workload"]["uuid"], self.submit(check=1).stderr)

    def test_lists_that_do_not_end(self):
        def endless(hub, handler, body):
            raise Answer(200, json.dumps({"count": 10 ** 18, "start": 0, "discussions": [{"num": 1, "title": "x"}]}).encode())
        self.hub.faults = {"discussions": [endless] * 2000}
        self.assertIn("does not end", " ".join(self.submit(check=1).stderr.split()))

    def test_two_at_once(self):
        started = threading.Event()
        def wait(hub, handler, body): started.set(); time.sleep(1)
        self.hub.faults = {"commit": [wait]}
        process = subprocess.Popen([BINARY, "submit", "--trace-dir", self.trace, "--allow-unverified"], env=self.environment(),
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.assertTrue(started.wait(30))
        self.assertIn("another submit", run("submit", "--trace-dir", self.trace, "--allow-unverified", check=1, env=self.environment()).stderr)
        process.send_signal(signal.SIGINT)  # while the commit is under way: its answer is waited for
        self.assertIn("discussions/1", process.communicate(timeout=30)[1], "and says that it is open")
        self.submit_json()
        self.check_pull_request()

    def test_a_dry_run_sends_nothing(self):
        before = tree(self.folder / "hub")
        result = self.submit("--dry-run")
        for words in ("## Checklist", LINES, "Nothing was sent", "[x]"): self.assertIn(words, result.stdout)
        self.assertEqual(tree(self.folder / "hub"), before)
        self.assertTrue({"preupload", "batch", "commit", "put"}.isdisjoint(self.operations()))
        self.submit("--dry-run", token=None)  # main is public

    def test_a_dry_run_without_a_network_or_git_lfs(self):
        result = self.submit("--dry-run", env={"HF_ENDPOINT": "http://127.0.0.1:9"})
        for words in ("## Checklist", "Not compared with what is there", "Nothing was sent"): self.assertIn(words, result.stdout)
        self.assertIn("not_compared", self.submit("--dry-run", "--json", env={"HF_ENDPOINT": "http://127.0.0.1:9"}, token=None).stdout)
        result = self.submit("--dry-run", "--remote", f"file://{self.folder}/no-such.git")
        self.assertIn("Not compared", result.stdout)
        # git alone, without git-lfs.
        binaries = self.folder / "bin"
        binaries.mkdir()
        for name in ("git", "sh", "python3"): (binaries / name).symlink_to(shutil.which(name))
        remote = f"file://{self.bare()}"
        result = self.submit("--dry-run", "--remote", remote, env={"PATH": str(binaries)})
        self.assertIn("git-lfs is not installed", result.stderr)
        self.assertIn("Nothing was sent", result.stdout)
        self.assertIn("git-lfs", self.submit("--remote", remote, check=1, env={"PATH": str(binaries)}).stderr)

    def test_what_is_wrong_here_is_said_before_anybody_is_asked(self):
        nobody = {"HF_ENDPOINT": "http://127.0.0.1:9"}
        for token in (TOKEN, None):  # not verified
            result = run("submit", "--trace-dir", self.trace, check=1, env=self.environment(token, **nobody))
            self.assertIn("--allow-unverified", result.stderr)
        collection = json.loads((self.trace / "collection.json").read_text())
        collection["captures"][0]["run"] = {"simulated": True}
        (self.trace / "collection.json").write_text(json.dumps(collection))
        self.assertIn("simulated engine", self.submit(check=1, env=nobody, token=None).stderr)
        next((self.trace / "blob").rglob("*.safetensors")).unlink()
        self.assertIn("not valid", self.submit(check=1, env=nobody, token=None).stderr)

    def test_a_login_in_the_browser_is_renewed(self):
        home = self.folder / "cache/huggingface"
        home.mkdir(parents=True)
        binaries = self.folder / "bin"
        binaries.mkdir()
        hf = binaries / "hf"
        hf.write_text(f"#!/bin/sh\n[ \"$*\" = 'auth token' ] || exit 9\n[ -z \"$HF_TOKEN\" ] || exit 8\necho {TOKEN}\necho 'a hint'\n")
        hf.chmod(0o755)
        path = {"PATH": f"{binaries}:{os.environ['PATH']}"}
        (home / "token").write_text("hf_oauth_old")
        def login(left, **more):
            fields = {"hf_token": "hf_oauth_old", "refresh_token": "r", "expires_at": int(time.time()) + left, **more}
            (home / "stored_tokens").write_text("[other]\nhf_token = hf_other\n\n[oauth]\n" + "".join(f"{k} = {v}\n" for k, v in fields.items()))
        self.hub.tokens["hf_oauth_old"] = ("reader", "read")  # what it was before
        login(3000)
        self.assertEqual(self.submit_json(token=None, env=path)["pull_request"], 1)
        # It cannot be renewed: it is said, and where it has ended that is what is wrong.
        hf.write_text("#!/bin/sh\nexit 1\n")
        self.hub.tokens["hf_oauth_old"] = ("writer", "write")
        result = self.submit("--pr", "1", "--definition-name", DECODE, token=None, env=path)
        self.assertIn("ends in 0 hours", " ".join(result.stderr.split()))
        login(-7200)
        said = self.submit(check=1, token=None, env=path).stderr
        self.assertIn("ended 2 hours ago", " ".join(said.split()))
        self.assertIn("hf auth login", said)
        # A token that was made by hand has no end.
        login(-7200, hf_token="hf_another")
        self.submit("--dry-run", token=None, env=path)

    def test_large_files_go_in_parts(self):
        self.hub.multipart_from, self.hub.part_size = 200, 64
        self.submit_json()
        self.assertIn("put_part", self.operations())
        self.check_pull_request()

    def test_what_is_refused(self):
        self.assertIn("no access token", self.submit(check=1, token=None).stderr)
        result = run("submit", "--trace-dir", self.trace, check=1, env=self.environment())
        self.assertIn("--allow-unverified", result.stderr)
        empty = self.new_trace("empty")
        self.assertIn("no workloads", self.submit(check=3, trace=empty).stderr)
        self.assertIn("no definition is called", self.submit("--definition-name", "none", check=1).stderr)
        self.assertIn("OWNER/NAME", run("submit", "--trace-dir", self.trace, "--repo", "a/b/c", check=2).stderr)
        collection = json.loads((self.trace / "collection.json").read_text())
        collection["captures"][0]["run"] = {"simulated": True}
        (self.trace / "collection.json").write_text(json.dumps(collection))
        self.assertIn("simulated engine", self.submit(check=1).stderr)
        lines = (self.trace / LINES).read_text().splitlines()
        (self.trace / LINES).write_text("\n".join(lines[:-1]) + "\n")  # its blob is an orphan now
        self.assertIn("collect-workloads validate", self.submit(check=1).stderr)
        self.assertEqual(self.repo.discussions, [])
        self.assertNotIn("commit", self.operations())

    def test_a_definition_that_means_something_else_there(self):
        path = f"definitions/gqa_paged/{DECODE}.json"
        definition = json.loads((self.trace / path).read_text())
        definition["axes"]["num_kv_heads"]["value"] = 4
        self.repo.add({path: json.dumps(definition).encode()})
        self.assertIn("means something else", " ".join(self.submit(check=1).stderr.split()))

    def test_tokens(self):
        for token, words in (("hf_wrong", "has expired"), ("hf_reader", "is read-only"), ("two words", "no access token")):
            result = self.submit(check=1, token=token)
            self.assertIn(words, " ".join(result.stderr.split()))
            self.assertIn("hf auth login", result.stderr)
        # The places of the Hub's own client.
        for place, env in (("cache/huggingface/token", {}), ("hf/token", {"HF_HOME": str(self.folder / "hf")}),
                           ("own", {"HF_TOKEN_PATH": str(self.folder / "own")})):
            path = self.folder / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(TOKEN + "\n")
            self.submit_json("--definition-name", DECODE, token=None, env=env)
            self.assertNotIn(TOKEN, self.outputs)
            path.unlink()
        self.assertEqual(len(self.repo.discussions), 1)

    def test_the_token_is_in_no_process_list_and_no_core(self):
        started, killed = threading.Event(), threading.Event()
        def wait(hub, handler, body):  # nothing is done for a client that is gone
            started.set(); killed.wait(30)
            raise Answer(503, b"")
        self.hub.faults = {"commit": [wait]}
        process = subprocess.Popen([BINARY, "submit", "--trace-dir", self.trace, "--allow-unverified"], env=self.environment(),
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.assertTrue(started.wait(30))
        self.assertNotIn(TOKEN.encode(), pathlib.Path(f"/proc/{process.pid}/cmdline").read_bytes())
        try: self.assertNotIn(TOKEN.encode(), pathlib.Path(f"/proc/{process.pid}/environ").read_bytes())
        except PermissionError: pass  # not even that
        self.assertRegex(pathlib.Path(f"/proc/{process.pid}/limits").read_text(), r"Max core file size +0 +0")
        os.kill(process.pid, signal.SIGABRT)
        self.assertFalse(os.WCOREDUMP(os.waitpid(process.pid, 0)[1]))
        killed.set()
        process.returncode = 0
        self.submit_json()
        self.check_pull_request()

    def test_faults_that_pass(self):
        for operation, fault in (("preupload", 429), ("whoami", 500), ("put", 503), ("put", "cut"), ("batch", 502), ("verify", 500),
                                 ("paths_info", "cut"), ("commit", "lost"), ("commit", "cut"), ("commit", 409), ("commit", 429)):
            with self.subTest(operation=operation, fault=fault):
                self.tearDownHub()
                self.hub.faults = {operation: [fault]}
                self.submit_json()
                self.assertEqual(self.hub.faults[operation], [], "it did happen")
                self.check_pull_request()

    def tearDownHub(self):
        """A new one, empty."""
        self.hub.close()
        self.hub = Hub(self.folder / f"hub{time.monotonic_ns()}")
        self.addCleanup(self.hub.close)
        self.repo = self.hub.repo(REPO)
        self.repo.add({"README.md": b"# traces\n"})

    def test_faults_that_stay(self):
        for operation, fault, words in (
                ("put", 403, "is not allowed to do that"), ("commit", 403, "is not allowed to do that"), ("preupload", 404, "Check --repo"), ("batch", 413, "too large"),
                ("info", 403, "permissions"), ("commit", 500, "status 500"), ("commit", 413, "--op-type")):
            with self.subTest(operation=operation, fault=fault):
                self.hub.faults = {operation: [fault] * 20}
                result = self.submit(check=1)
                self.assertIn(words, " ".join(result.stderr.split()))
                self.assertEqual(self.repo.discussions, [])
                if operation != "info":
                    # What was to be offered is laid out, and the command that does it by hand.
                    self.assertIn("hf upload", result.stderr)
                    laid_out = next((self.folder / "state/collect-workloads/submit").iterdir())
                    self.assertTrue((laid_out.with_suffix("") / LINES).exists() or laid_out.suffix == ".md")
        self.hub.faults = {}
        self.submit_json()
        self.check_pull_request()
        self.assertEqual(list((self.folder / "state/collect-workloads/submit").iterdir()), [], "it is not needed any more")

    def test_gated(self):
        def gated(hub, handler, body): raise Answer(403, b'{"error": "Access to dataset is restricted"}', {"X-Error-Code": "GatedRepo"})
        self.hub.faults = {"info": [gated]}
        result = self.submit(check=1)
        self.assertIn("Request access", result.stderr)
        self.assertIn(f"{self.hub.url}/datasets/{REPO}", result.stderr)

    def test_main_moves_on_meanwhile(self):
        first = self.submit_json("--definition-name", DECODE)
        def move(hub, handler, body):  # somebody else commits to the same pull request
            self.repo.move("refs/pr/1", self.repo.commit(self.repo.head("refs/pr/1"), {"other": b"x"}, "other"))
        self.hub.faults = {"commit": [move]}
        self.submit_json("--pr", "1")
        self.assertIn("other", self.repo.tree("refs/pr/1"))
        self.check_pull_request()

    def test_the_token_does_not_follow_a_redirect(self):
        def away(hub, handler, body):
            raise Answer(307, b"", {"Location": hub.store_url + handler.path})
        self.hub.faults = {"whoami": [away]}
        result = self.submit(check=1)  # submit() looks at what the other host was given
        self.assertIn("not accepted", " ".join(result.stderr.split()))
        self.hub.faults = {"commit": [lambda hub, handler, body: (_ for _ in ()).throw(Answer(302, b"", {"Location": hub.store_url}))]}
        self.assertIn("redirect", self.submit(check=1).stderr)
        self.assertEqual(self.repo.discussions, [])

    def test_a_server_that_lies_about_a_hash(self):
        self.hub.lies = True
        result = self.submit(check=1)
        self.assertIn("differs on the server from what was sent", " ".join(result.stderr.split()))
        self.assertIn("Do not merge it", result.stderr)
        self.assertIn(f"{self.hub.url}/datasets/{REPO}/discussions/1", result.stderr)
        self.assertNotIn("hf upload", result.stderr)
        # The next run does not take it for done: it mends it.
        self.hub.lies = False
        self.assertFalse(self.submit_json()["was_there"])
        self.check_pull_request()
        self.assertEqual(tree(self.check_out("refs/pr/1", "mended") / "blob"), tree(self.trace / "blob"))

    def test_answers_that_make_no_sense(self):
        for operation, answer in (("whoami", b"<html>"), ("whoami", b"[]"), ("info", b"{}"), ("paths_info", b"{}"), ("preupload", b'{"files": []}'),
                                  ("batch", b'{"objects": [{"oid": "0"}]}'), ("batch", b"[" * 5000), ("commit", b"{}"), ("discussions", b"[]")):
            with self.subTest(operation=operation):
                def garble(hub, handler, body): raise Answer(200, answer)
                self.hub.faults = {operation: [garble] * 9}
                self.assertIn("is malformed", " ".join(self.submit(check=1).stderr.split()))

    def test_tls_that_does_not_verify(self):
        certificate = self.folder / "certificate.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", self.folder / "key.pem", "-out", self.folder / "cert.pem",
                        "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
        certificate.write_bytes((self.folder / "key.pem").read_bytes() + (self.folder / "cert.pem").read_bytes())
        self.hub.close()
        self.hub = Hub(self.folder / "tls", tls=certificate)
        self.addCleanup(self.hub.close)
        self.hub.repo(REPO).add({"README.md": b""})
        self.repo = self.hub.repo(REPO)
        result = self.submit(check=1)
        self.assertIn("SSL_CERT_FILE", result.stderr)
        self.assertEqual(self.hub.requests, [])
        self.submit_json(env={"SSL_CERT_FILE": str(self.folder / "cert.pem")})
        self.check_pull_request()

    def test_interrupted(self):
        started = threading.Event()
        def wait(hub, handler, body):
            started.set(); time.sleep(1)
        self.hub.faults = {"put": [wait] * 100}
        process = subprocess.Popen([BINARY, "submit", "--trace-dir", self.trace, "--allow-unverified"], env=self.environment(),
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.assertTrue(started.wait(30))
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        self.assertLess(time.monotonic() - begun, 5)
        self.assertEqual(process.returncode, 130)
        self.assertIn("Run the same command again", errors)
        self.assertEqual(self.repo.discussions, [])
        self.hub.faults = {}
        self.submit_json()
        self.check_pull_request()

    def test_killed_at_any_moment(self):
        for i in range(8):
            process = subprocess.Popen([BINARY, "submit", "--trace-dir", self.trace, "--allow-unverified"], env=self.environment(),
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(0.02 * i)
            process.kill(); process.wait()
        for path in (self.folder / "tmp").iterdir(): subprocess.run(["rm", "-rf", path])  # kill -9 leaves its scratch
        time.sleep(0.5)
        self.submit_json()
        self.check_pull_request()

    # The git way.
    def bare(self, attributes="*.safetensors filter=lfs diff=lfs merge=lfs -text\n"):
        bare = self.folder / "bare.git"
        work = self.folder / "seed"
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", bare], check=True)
        subprocess.run(["git", "init", "-q", "-b", "main", work], check=True)
        (work / "README.md").write_text("# traces\n")
        if attributes: (work / ".gitattributes").write_text(attributes)
        env = self.environment()
        for command in (["add", "."], ["commit", "-qm", "first"], ["push", "-q", str(bare), "main"]):
            subprocess.run(["git", "-C", work, *command], check=True, env=env)
        git(bare, "config", "uploadpack.allowFilter", "true")
        return bare

    def clone(self, remote, branch, name):
        folder = self.folder / name
        env = self.environment()
        subprocess.run(["git", "-c", "filter.lfs.smudge=git-lfs smudge -- %f", "-c", "filter.lfs.process=git-lfs filter-process", "-c",
                        "filter.lfs.required=true", "clone", "-q", "-b", branch, remote, folder], check=True, env=env)
        return folder

    def test_names_below_a_branch_and_bad_files_of_a_remote(self):
        bare = self.bare()
        remote = f"file://{bare}"
        today = time.strftime("%Y%m%d", time.gmtime())
        head = git(bare, "rev-parse", "main").decode().strip()
        for name in (f"workloads-{today}-mixed", f"workloads-{today}-mixed-2/x", f"workloads-{today}-mixed-3/a/b"):
            git(bare, "update-ref", f"refs/heads/{name}", head)
        self.assertEqual(self.submit_json("--remote", remote)["branch"], f"workloads-{today}-mixed-4")
        # What is wrong there is not the user's.
        work = self.folder / "seed"
        (work / "workloads/rmsnorm").mkdir(parents=True)
        (work / "workloads/rmsnorm/rmsnorm_h4096.jsonl").write_text("junk\n")
        for command in (["add", "."], ["commit", "-qm", "junk"], ["push", "-q", str(bare), "main"]):
            subprocess.run(["git", "-C", work, *command], check=True, env=self.environment())
        said = " ".join(self.submit("--remote", remote, check=1).stderr.split())
        self.assertRegex(said, r"bare.git at [0-9a-f]{8}: workloads/rmsnorm/rmsnorm_h4096.jsonl, line 1: not a workload")
        self.assertIn("tell its maintainers", said)
        self.assertNotIn("collect-workloads-", said)

    def test_a_remote_that_is_flat(self):
        """Without folders of op types: lines are appended where its own are, and what is there is known."""
        bare = self.bare()
        remote, work = f"file://{bare}", self.folder / "seed"
        lines = (self.trace / f"workloads/gqa_paged/{DECODE}.jsonl").read_text().splitlines(keepends=True)
        for folder in ("definitions", "workloads"): (work / folder).mkdir()
        (work / f"definitions/{DECODE}.json").write_bytes((self.trace / f"definitions/gqa_paged/{DECODE}.json").read_bytes())
        (work / f"workloads/{DECODE}.jsonl").write_text("".join(lines[:1]))
        for command in (["add", "."], ["commit", "-qm", "flat"], ["push", "-q", str(bare), "main"]):
            subprocess.run(["git", "-C", work, *command], check=True, env=self.environment())
        result = self.submit_json("--remote", remote, "--definition-name", DECODE)
        self.assertEqual(result["definitions"][DECODE], {"new": len(lines) - 1, "there_already": 1, "undecided": 0})
        clone = self.clone(remote, result["branch"], "clone")
        self.assertEqual((clone / f"workloads/{DECODE}.jsonl").read_text(), "".join(lines))
        self.assertFalse((clone / "workloads/gqa_paged").exists() or (clone / "definitions/gqa_paged").exists())

        # In both places, which one is meant is not known.
        (work / "workloads/gqa_paged").mkdir()
        (work / f"workloads/gqa_paged/{DECODE}.jsonl").write_text("")
        for command in (["add", "."], ["commit", "-qm", "both"], ["push", "-q", str(bare), "main"]):
            subprocess.run(["git", "-C", work, *command], check=True, env=self.environment())
        said = " ".join(self.submit("--remote", remote, "--definition-name", DECODE, check=1).stderr.split())
        self.assertIn(f"in the target {DECODE}.jsonl is at workloads/gqa_paged/{DECODE}.jsonl and workloads/{DECODE}.jsonl, but should be at workloads/gqa_paged/{DECODE}.jsonl alone", said)

    def test_a_branch_of_a_git_remote(self):
        for attributes in ("*.safetensors filter=lfs diff=lfs merge=lfs -text\n", None):
            with self.subTest(attributes=attributes):
                bare = self.bare(attributes)
                remote = f"file://{bare}"
                result = self.submit_json("--remote", remote)
                self.assertRegex(result["branch"], r"^workloads-20\d{6}-mixed$")
                clone = self.clone(remote, result["branch"], "clone")
                run("validate", "--trace-dir", clone, check=0)
                self.assertEqual(tree(clone / "blob"), tree(self.trace / "blob"))
                self.assertEqual(workloads(clone), workloads(self.trace))
                # Blobs are in LFS, not in git.
                blob = next(line for line in git(bare, "ls-tree", "-r", result["branch"]).decode().splitlines() if ".safetensors" in line)
                self.assertTrue(parse_pointer(git(bare, "cat-file", "blob", blob.split()[2])))
                self.assertIn(f"[", git(bare, "log", "-1", "--format=%s", result["branch"]).decode())
                again = self.submit_json("--remote", remote)
                self.assertTrue(again["was_there"])
                self.assertEqual(again["branch"], result["branch"])
                part = self.submit_json("--remote", remote, "--definition-name", DECODE)
                self.assertRegex(part["branch"], r"-gqa_paged$")
                other = self.submit_json("--remote", remote, "--op-type", "rmsnorm")
                for path in (bare, clone, self.folder / "seed"): subprocess.run(["rm", "-rf", path])

    def test_a_git_remote_over_http(self):
        """git's smart protocol and git-lfs's batch API, as any forge has them."""
        remote = f"{self.hub.url}/datasets/{REPO}"
        result = self.submit_json("--remote", remote)
        self.assertIn("smart", self.operations())
        self.assertIn("batch", self.operations())
        folder = self.check_out(f"refs/heads/{result['branch']}", "branch")
        run("validate", "--trace-dir", folder, check=0)
        self.assertEqual(tree(folder / "blob"), tree(self.trace / "blob"))
        # What main has under another id is fetched through LFS to be compared.
        self.repo.move("refs/heads/main", self.repo.head(result["branch"]))
        lines = [json.loads(line) for line in self.repo.content(self.repo.tree("main")[LINES][0]).decode().splitlines()]
        for i, line in enumerate(lines): line["workload"]["uuid"] = f"foreign-{i}"
        self.repo.add({LINES: "".join(json.dumps(line) + "\n" for line in lines).encode()})
        self.submit("--remote", remote, check=3)

    def test_branches_of_others_never_reach_git_as_options(self):
        """Whoever may push to the remote chooses its branches' names. Only those of our own form are looked at, and none stands where
        git looks for options: a git in front of the real one notes what it is given."""
        bare = self.folder / "remote.git"
        subprocess.run(["git", "clone", "-q", "--bare", self.repo.git, bare], check=True)
        head = git(bare, "rev-parse", "HEAD").strip()
        names = ["--no-tags/workloads-20260101-x", "-q/workloads-x", "workloads-20260101-x/y", "workloads---quiet", "workloads-20260101-", "workloads-2026-x",
                 "other/refs/heads/workloads-20260101-x", "workloads-20260101-x;true"]
        for name in names: git(bare, "update-ref", f"refs/heads/{name}", head)
        tools, log = self.folder / "tools", self.folder / "git.log"
        tools.mkdir()
        real = subprocess.run(["which", "git"], capture_output=True, text=True, check=True).stdout.strip()
        (tools / "git").write_text(f"#!/bin/sh\nfor word in \"$@\"; do printf '%s\\n' \"$word\" >> '{log}'; done\nexec {real} \"$@\"\n")
        (tools / "git").chmod(0o755)
        env = {"PATH": f"{tools}:{os.environ['PATH']}"}
        for options in (["--dry-run"], []):
            result = self.submit_json("--remote", f"file://{bare}", *options, env=env)
            self.assertRegex(result["branch"], r"^workloads-\d{8}-\w+$")
        words = log.read_text().splitlines()
        self.assertIn("ls-remote", words)
        for word in words:
            self.assertFalse(any(name in word for name in names), word)
        # A remote that looks like an option is no option either.
        self.assertIn("git clone failed", self.submit("--remote", "--no-tags", check=1).stderr)
        # Nor does the repository count that a hook or a script is in the middle of.
        own = self.folder / "own"
        subprocess.run(["git", "init", "-q", own], check=True)
        before = tree(own)
        self.assertTrue(self.submit_json("--remote", f"file://{bare}", env={"GIT_DIR": str(own / ".git"), "GIT_WORK_TREE": str(own)})["was_there"])
        self.assertEqual(tree(own), before)

    def test_what_was_simulated_is_refused_by_whatever_way_it_came(self):
        """Behind a launch command, by serve, drive and sanitize, by watch, and merged with what is real."""
        env = {**self.environment(), "XDG_STATE_HOME": str(self.folder / "state")}
        serve = f"'{BINARY}' serve --model-name llama-3.1-8b --max-total-tokens 16384"
        traces = {}
        traces["launch command"] = self.new_trace("launched")
        common = ["--definition-name", DECODE, "--random-prompts", "--num-prompts", "6", "--output-tokens", "4", "--concurrency", "2"]
        run("collect", "--trace-dir", traces["launch command"], *common, "--capture", "level10", "--work-dir", self.folder / "work",
            "--launch-command", serve + " --port {port}", check=0, env=env)
        for kind in ("sanitize", "watch"):
            dumps = self.folder / f"dumps-{kind}"
            server = subprocess.Popen([BINARY, "serve", "--model-name", "llama-3.1-8b", "--port", "31987", "-q", "--max-total-tokens", "16384"],
                                      env={**env, "FLASHINFER_LOGLEVEL": "10", "FLASHINFER_DUMP_DIR": str(dumps)}, stderr=subprocess.PIPE, text=True)
            self.addCleanup(server.wait)
            self.addCleanup(server.terminate)
            self.addCleanup(server.stderr.close)
            self.assertIn("ready to roll", server.stderr.readline())
            run("drive", "--url", "http://127.0.0.1:31987", "--random-prompts", "--num-prompts", "6", "--output-tokens", "4", check=0)
            traces[kind] = self.new_trace(kind)
            if kind == "sanitize": self.sanitize(dumps, "--definition-name", DECODE, trace=traces[kind])
            else: run("watch", "--dumps", dumps, "--trace-dir", traces[kind], "--definition-name", DECODE, "--until-idle", "1", check=0)
            server.terminate()
            server.wait()
        for name in ("launch command", "sanitize"):
            merged = self.folder / f"merged-{name}"
            for inputs in ([self.trace, traces[name]], [traces[name], self.trace]):
                run("merge", *inputs, "--out", f"{merged}-{inputs[0].name}", check=0)
            traces[f"{name}, merged"] = pathlib.Path(f"{merged}-{self.trace.name}")
            traces[f"{name}, merged the other way"] = pathlib.Path(f"{merged}-{traces[name].name}")
        for name, trace in traces.items():
            with self.subTest(name):
                self.assertTrue(any(section.get("simulated") for section in json.loads((trace / "collection.json").read_text())["captures"]))
                result = self.submit("--dry-run", trace=trace, check=1)
                self.assertIn("simulated engine", result.stderr)
                self.assertIn("imulated", run("report", "--trace-dir", trace, "--format", "md", check=0).stdout)

    def test_a_remote_that_cannot_be_pushed_to(self):
        bare = self.bare()
        hook = bare / "hooks/pre-receive"
        hook.write_text("#!/bin/sh\necho no entry >&2\nexit 1\n"); hook.chmod(0o755)
        result = self.submit("--remote", f"file://{bare}", check=1)
        self.assertIn("no entry", result.stderr)
        command = re.search(r"git -C (\S+) push origin (\S+)", result.stderr)
        self.assertTrue(command, result.stderr)
        hook.unlink()
        subprocess.run(command[0].split(), check=True, env=self.environment(), capture_output=True)
        run("validate", "--trace-dir", self.clone(f"file://{bare}", command[2], "clone"), check=0)
        result = self.submit("--remote", f"file://{self.folder}/none", check=1)
        self.assertIn("git ls-remote", result.stderr)
        self.assertNotIn("hf upload", result.stderr, "nobody is sent to the public Hub")
        nobody = {"GIT_AUTHOR_NAME": "", "GIT_AUTHOR_EMAIL": "", "GIT_COMMITTER_NAME": "", "GIT_COMMITTER_EMAIL": ""}
        result = self.submit("--remote", f"file://{bare}", check=1, env=nobody)
        self.assertIn("git config --global user.name", result.stderr)

    def test_a_remote_with_a_password_in_its_url(self):
        secret = "s3cretpw"
        remote = f"{self.hub.url}/datasets/{REPO}".replace("http://", f"http://user:{secret}@")
        self.hub.tokens[secret] = ("writer", "write")
        result = self.submit("--remote", remote, "--json")
        branch = json.loads(result.stdout)["branch"]
        self.assertNotIn(secret, self.outputs)
        self.assertNotIn(secret, git(self.repo.git, "log", "-1", "--format=%B", branch).decode())
        self.assertNotIn(secret, self.submit("--remote", remote.replace("trace", "none"), check=1).stderr)

    def test_the_users_git_is_left_alone(self):
        """Hooks of their own are neither run nor written to; a link in the remote leads nowhere."""
        hooks = self.folder / "hooks"
        hooks.mkdir()
        (hooks / "pre-push").write_text("#!/bin/sh\nexit 1\n"); (hooks / "pre-push").chmod(0o755)
        config = self.folder / "gitconfig"
        config.write_text(f"[core]\n\thooksPath = {hooks}\n")
        bare = self.bare()
        self.submit_json("--remote", f"file://{bare}", env={"GIT_CONFIG_GLOBAL": str(config)})
        self.assertEqual([p.name for p in hooks.iterdir()], ["pre-push"])
        secret = self.folder / "local.jsonl"
        secret.write_text((self.trace / LINES).read_text().splitlines()[0].replace("uuid", "uuid") + "\n")
        work = self.folder / "seed"
        (work / LINES).parent.mkdir(parents=True)
        (work / LINES).symlink_to(secret)
        env = self.environment()
        for command in (["add", "."], ["commit", "-qm", "link"], ["push", "-q", str(bare), "main"]): subprocess.run(["git", "-C", work, *command], check=True, env=env)
        self.submit("--remote", f"file://{bare}", check=1)


if __name__ == "__main__":
    unittest.main()
