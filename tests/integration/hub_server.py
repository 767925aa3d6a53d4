"""A Hugging Face Hub for tests: datasets as bare git repositories with an LFS store, behind the API that huggingface_hub
speaks. Real storage: what is committed is in git, what is uploaded is on disk under its SHA-256. git itself may clone and
push by smart HTTP. Faults are switched on by tests; every request is recorded."""
import base64, hashlib, http.server, json, os, pathlib, re, ssl, struct, subprocess, tempfile, threading, time, urllib.parse, zlib

ZERO = "0" * 40


def git(repo, *arguments, input=None, env=None):
    done = subprocess.run(["git", "-C", str(repo), *arguments], input=input, capture_output=True, env={**os.environ, **(env or {})})
    if done.returncode != 0: raise LookupError(f"git {arguments}: {done.stderr.decode()}")
    return done.stdout


class Repo:
    """A dataset: refs/heads/main, refs/pr/N, and discussions."""

    def __init__(self, root, name):
        self.name, self.git, self.lfs = name, pathlib.Path(root) / f"{name}.git", pathlib.Path(root) / f"{name}.lfs"
        self.lfs.mkdir(parents=True)
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", self.git], check=True)
        git(self.git, "config", "uploadpack.allowFilter", "true"); git(self.git, "config", "uploadpack.allowAnySHA1InWant", "true")
        git(self.git, "config", "http.receivepack", "true")
        self.discussions = []
        self.contents = {}  # blobs do not change
        self.lock = threading.Lock()

    def head(self, revision):
        for name in (f"refs/heads/{revision}", revision):
            try: return git(self.git, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").decode().strip()
            except LookupError: pass
        return None

    def tree(self, revision):
        """path -> (git id, size)."""
        listed = git(self.git, "ls-tree", "-r", "-l", "-z", revision).decode()
        result = {}
        for entry in filter(None, listed.split("\0")):
            attributes, path = entry.split("\t", 1)
            _, _, oid, size = attributes.split()
            result[path] = (oid, int(size))
        return result

    def content(self, oid):
        if oid not in self.contents: self.contents[oid] = git(self.git, "cat-file", "blob", oid)
        return self.contents[oid]

    def add_blob(self, content):
        """git hash-object -w, without a process for each."""
        data = b"blob %d\0" % len(content) + content
        oid = hashlib.sha1(data).hexdigest()
        path = self.git / "objects" / oid[:2] / oid[2:]
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file: file.write(zlib.compress(data))
            os.rename(file.name, path)
        return oid

    def commit(self, parent, files, summary, description=""):
        """files: path -> bytes. Returns the new commit; no ref is moved."""
        with tempfile.NamedTemporaryFile() as index:
            env = {"GIT_INDEX_FILE": index.name + ".index", "GIT_AUTHOR_NAME": "u", "GIT_AUTHOR_EMAIL": "u@example.org",
                   "GIT_COMMITTER_NAME": "u", "GIT_COMMITTER_EMAIL": "u@example.org",
                   "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z", "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z"}
            if parent: git(self.git, "read-tree", parent, env=env)
            lines = ""
            for path, content in files.items():
                lines += f"100644 {self.add_blob(content)}\t{path}\n"
            git(self.git, "update-index", "--index-info", input=lines.encode(), env=env)
            tree = git(self.git, "write-tree", env=env).decode().strip()
            os.unlink(env["GIT_INDEX_FILE"])
            return git(self.git, "commit-tree", tree, *(["-p", parent] if parent else []), "-m", summary, "-m", description or " ",
                       env=env).decode().strip()

    def move(self, ref, commit):
        git(self.git, "update-ref", ref, commit)

    def add(self, files, message="files"):
        """Commits to main, as its people do; LFS where .gitattributes says so."""
        stored = {}
        for path, content in files.items():
            stored[path] = self.store(content) if path.endswith(".safetensors") else content
        self.move("refs/heads/main", self.commit(self.head("main"), stored, message))

    def store(self, content):
        oid = hashlib.sha256(content).hexdigest()
        (self.lfs / oid).write_bytes(content)
        return pointer(oid, len(content))


def pointer(oid, size):
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n".encode()


def parse_pointer(content):
    found = re.match(rb"version https://git-lfs[^\n]*\noid sha256:([0-9a-f]{64})\nsize (\d+)\n", content[:200])
    return (found[1].decode(), int(found[2])) if found else None


class Answer(Exception):
    def __init__(self, status, body=b"", headers=()):
        self.status, self.body, self.headers = status, body, dict(headers)


# Xet's content-addressed store, as hf_xet 1.8.0 speaks to it (huggingface/xet-core: xorb_object, mdb_shard).

def xet_hash(raw):
    """32 bytes as text: four numbers, the low byte of each first."""
    return b"".join(raw[i:i + 8][::-1] for i in range(0, 32, 8)).hex()


def xorb_chunks(content):
    """The chunks of a xorb: a version, the length as stored, how it is compressed, the length; and the bytes."""
    import lz4.frame
    chunks, at = [], 0
    while at < len(content):
        stored, kind, length = int.from_bytes(content[at + 1:at + 4], "little"), content[at + 4], int.from_bytes(content[at + 5:at + 8], "little")
        data = content[at + 8:at + 8 + stored]
        if kind: data = lz4.frame.decompress(data)
        if kind == 2:  # bytes of like significance together
            parts, begin = bytearray(len(data)), 0
            for i in range(4):
                count = (len(data) + 3 - i) // 4
                parts[i::4] = data[begin:begin + count]
                begin += count
            data = bytes(parts)
        if content[at] != 0 or len(data) != length: raise failure(400, "", "no xorb")
        chunks.append(data)
        at += 8 + stored
    return chunks


def shard_files(content):
    """SHA-256 -> [(xorb, first chunk, end)] of the files that a shard tells of."""
    at, files = 48, {}
    while content[at:at + 32] != b"\xff" * 32:
        flags, count = struct.unpack_from("<II", content, at + 32)
        segments = []
        for i in range(count):
            entry = content[at + 48 * (i + 1):at + 48 * (i + 2)]
            segments.append((xet_hash(entry[:32]), *struct.unpack_from("<II", entry, 40)))
        at += 48 * (1 + count * (2 if flags >> 31 else 1))
        files[xet_hash(content[at:at + 32])] = segments
        at += 48
    return files


def failure(status, code, message):
    return Answer(status, json.dumps({"error": message}).encode(), {"X-Error-Code": code, "X-Error-Message": message})


class Hub:
    """`faults` maps the name of an operation to a list of what to do, taken from its front: an HTTP status, "cut" (the
    connection ends in the middle), "lost" (it is done, and the connection ends), a function of the handler, None (nothing)."""

    def __init__(self, root, multipart_from=1 << 40, part_size=1 << 20, tls=None):
        self.root, self.multipart_from, self.part_size = pathlib.Path(root), multipart_from, part_size
        self.tokens = {"hf_writer": ("writer", "write"), "hf_reader": ("reader", "read")}
        self.repos, self.faults, self.requests, self.parts, self.xorbs = {}, {}, [], {}, {}
        self.foreign_tokens = []  # what the store saw of tokens: it must see none
        self.lies = False
        self.busy, self.changed = 0, threading.Condition()
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            def log_message(self, *_): pass
            def do_GET(self):
                with hub.changed: hub.busy += 1
                try: hub.serve(self)
                finally:
                    with hub.changed: hub.busy -= 1; hub.changed.notify_all()
            do_POST = do_PUT = do_HEAD = do_GET

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        # Another host: where blobs are sent, as the Hub's are to an object store.
        self.store = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.store.daemon_threads = True
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.server.server_port}"
        self.store_url = f"http://localhost:{self.store.server_port}"
        for server in (self.server, self.store): server.handle_error = lambda *_: None  # clients that are gone
        for server in (self.server, self.store): threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        for server in (self.server, self.store): server.shutdown(); server.server_close()
        with self.changed: self.changed.wait_for(lambda: self.busy == 0, 10)  # git may be writing for a client that is gone

    def repo(self, name):
        if name not in self.repos: self.repos[name] = Repo(self.root, name)
        return self.repos[name]

    # Routes: (method, pattern, name of the operation).
    ROUTES = [(m, re.compile(p + r"\Z"), n) for m, p, n in [
        ("GET", "/api/whoami-v2", "whoami"),
        ("GET", "/api/datasets/(?P<repo>[^/]+/[^/]+)(/revision/(?P<rev>[^/]+))?", "info"),
        ("GET", "/api/datasets/(?P<repo>[^/]+/[^/]+)/tree/(?P<rev>[^/]+)(/(?P<path>.*))?", "tree"),
        ("POST", "/api/datasets/(?P<repo>[^/]+/[^/]+)/paths-info/(?P<rev>[^/]+)", "paths_info"),
        ("GET", "/api/datasets/(?P<repo>[^/]+/[^/]+)/discussions", "discussions"),
        ("POST", "/api/datasets/(?P<repo>[^/]+/[^/]+)/discussions", "new_discussion"),
        ("GET", "/api/datasets/(?P<repo>[^/]+/[^/]+)/discussions/(?P<number>\\d+)", "discussion"),
        ("POST", "/api/validate-yaml", "validate_yaml"),
        ("GET", "/api/datasets/(?P<repo>[^/]+/[^/]+)/xet-write-token/(?P<rev>[^/]+)", "xet_token"),
        ("POST", "/xet/(?P<repo>[^/]+/[^/]+)/v1/xorbs/default/(?P<oid>[0-9a-f]+)", "xorb"),
        ("POST", "/xet/(?P<repo>[^/]+/[^/]+)/v1/shards", "shard"),
        ("POST", "/api/datasets/(?P<repo>[^/]+/[^/]+)/preupload/(?P<rev>[^/]+)", "preupload"),
        ("POST", "/api/datasets/(?P<repo>[^/]+/[^/]+)/commit/(?P<rev>[^/]+)", "commit"),
        ("GET|HEAD", "/datasets/(?P<repo>[^/]+/[^/]+)/resolve/(?P<rev>[^/]+)/(?P<path>.+)", "resolve"),
        ("POST", r"/datasets/(?P<repo>[^/]+/[^/]+?)\.git/info/lfs/objects/batch", "batch"),
        ("POST", r"/datasets/(?P<repo>[^/]+/[^/]+?)\.git/info/lfs/verify", "verify"),
        ("POST", r"/datasets/(?P<repo>[^/]+/[^/]+?)\.git/info/lfs/complete/(?P<oid>[0-9a-f]+)", "complete"),
        ("GET|POST", r"/datasets/(?P<repo>[^/]+/[^/]+?)(\.git)?/(?P<service>info/refs|git-upload-pack|git-receive-pack)", "smart"),
        ("PUT", "/store/(?P<repo>[^/]+/[^/]+)/(?P<oid>[0-9a-f]+)", "put"),
        ("PUT", "/store/(?P<repo>[^/]+/[^/]+)/(?P<oid>[0-9a-f]+)/part/(?P<part>\\d+)", "put_part"),
        ("GET|HEAD", "/store/(?P<repo>[^/]+/[^/]+)/(?P<oid>[0-9a-f]+)", "get"),
    ]]

    def serve(self, handler):
        split = urllib.parse.urlsplit(handler.path)
        query = dict(urllib.parse.parse_qsl(split.query))
        for methods, pattern, name in self.ROUTES:
            found = pattern.match(split.path)
            if found and handler.command in methods.split("|"): break
        else:
            # With the body unread, it would be taken for the next request on this connection.
            self.body(handler)
            return self.answer(handler, failure(404, "", f"{handler.command} {split.path}: no such route"))
        arguments = {k: urllib.parse.unquote(v) for k, v in found.groupdict().items() if v is not None}
        is_store = handler.server is self.store
        # Xet's has one of its own.
        if is_store and handler.headers.get("Authorization") not in (None, "Bearer xet"): self.foreign_tokens.append(handler.headers["Authorization"])
        fault = (self.faults.get(name) or [None]).pop(0)
        try:
            if fault == "cut":  # in the middle of what is sent
                handler.rfile.read(min(100, int(handler.headers.get("Content-Length") or 0)))
                return self.cut(handler)
            body = self.body(handler)
            if callable(fault): fault(self, handler, body)
            elif isinstance(fault, int):
                headers = {"Retry-After": "1"} if fault == 429 else {}
                raise Answer(fault, json.dumps({"error": f"fault {fault}"}).encode(), headers)
            self.requests.append({"operation": name, "method": handler.command, "path": split.path, "query": query,
                                  "type": handler.headers.get("Content-Type"), "accept": handler.headers.get("Accept"),
                                  "has_token": "Authorization" in handler.headers, "body": body})
            repo = None
            if "repo" in arguments:
                repo = self.repos.get(arguments.pop("repo"))
                if repo is None: raise failure(404, "RepoNotFound", "Repository not found")
            user = self.user(handler, name) if handler.headers.get("Authorization") != "Bearer xet" else None
            answer = getattr(self, name)(repo=repo, user=user, query=query, body=body, handler=handler, **arguments)
            if fault == "lost": return self.cut(handler)
        except Answer as raised:
            answer = raised
        if answer is not None: self.answer(handler, answer)

    def body(self, handler):
        if handler.headers.get("Transfer-Encoding") == "chunked":
            content = b""
            while size := int(handler.rfile.readline(), 16):
                content += handler.rfile.read(size); handler.rfile.readline()
            handler.rfile.readline()
            return content
        return handler.rfile.read(int(handler.headers.get("Content-Length") or 0))

    def cut(self, handler):
        handler.close_connection = True
        try: handler.connection.shutdown(2)
        except OSError: pass

    def answer(self, handler, answer):
        body = answer if not isinstance(answer, Answer) else answer.body
        status, headers = (answer.status, answer.headers) if isinstance(answer, Answer) else (200, {})
        if isinstance(body, (dict, list)): body, headers = json.dumps(body).encode(), {"Content-Type": "application/json", **headers}
        try:
            handler.send_response(status)
            for name, value in headers.items(): handler.send_header(name, value)
            if "Content-Length" not in headers: handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            if handler.command != "HEAD": handler.wfile.write(body)
        except OSError:
            pass

    def user(self, handler, operation):
        given = handler.headers.get("Authorization", "")
        if given.startswith("Basic "):  # git's way
            given = "Bearer " + base64.b64decode(given[6:]).decode().split(":", 1)[1]
        if not given:
            if operation in ("whoami", "preupload", "commit", "new_discussion", "xet_token"): raise failure(401, "", "Invalid username or password.")
            return None
        if given.removeprefix("Bearer ") not in self.tokens: raise failure(401, "", "Invalid credentials in Authorization header")
        user = self.tokens[given.removeprefix("Bearer ")]
        if user[1] == "read" and operation == "commit": raise failure(403, "", "You need write access")
        return user

    # The operations.
    def whoami(self, user, **_):
        return {"type": "user", "name": user[0], "auth": {"type": "access_token", "accessToken": {"displayName": "t", "role": user[1]}}}

    def require(self, repo, rev):
        commit = repo.head(rev)
        if commit is None: raise failure(404, "RevisionNotFound", f"Invalid rev id: {rev}")
        return commit

    def info(self, repo, rev="main", **_):
        commit = self.require(repo, rev)
        return {"_id": "1", "id": repo.name, "sha": commit, "private": False, "gated": False, "disabled": False, "tags": [], "downloads": 0,
                "likes": 0, "siblings": [{"rfilename": path} for path in repo.tree(commit)]}

    def entry(self, repo, path, oid, size):
        item = {"type": "file", "path": path, "oid": oid, "size": size}
        found = parse_pointer(repo.content(oid)) if size < 200 else None
        if found: item.update(size=found[1], lfs={"oid": found[0], "size": found[1], "pointerSize": size})
        return item

    def tree(self, repo, rev, query, path="", **_):
        files = repo.tree(self.require(repo, rev))
        listed = [self.entry(repo, name, *files[name]) for name in files if not path or name.startswith(path.rstrip("/") + "/")]
        if path and not listed: raise failure(404, "EntryNotFound", f"{path} does not exist")
        page, size = int(query.get("cursor", 0)), 7
        if (page + 1) * size >= len(listed): return listed[page * size:]
        link = f'<{self.url}/api/datasets/{repo.name}/tree/{rev}/{path}?recursive=true&cursor={page + 1}>; rel="next"'
        return Answer(200, json.dumps(listed[page * size:(page + 1) * size]).encode(), {"Content-Type": "application/json", "Link": link})

    def paths_info(self, repo, rev, body, handler, **_):
        if handler.headers.get("Content-Type", "").startswith("application/json"): paths = json.loads(body)["paths"]
        else: paths = urllib.parse.parse_qs(body.decode()).get("paths", [])
        files = repo.tree(self.require(repo, rev))
        return [self.entry(repo, path, *files[path]) for path in paths if path in files]

    def discussions(self, repo, query, **_):
        items = [d for d in repo.discussions if query.get("author", d["author"]["name"]) == d["author"]["name"]]
        page, size = int(query.get("p", 0)), 2
        return {"discussions": items[page * size:(page + 1) * size], "count": len(items), "start": page * size}

    def new_discussion(self, repo, user, body, **_):
        asked = json.loads(body)
        number = len(repo.discussions) + 1
        if asked.get("pullRequest"): repo.move(f"refs/pr/{number}", repo.head("main"))
        repo.discussions.append({"num": number, "title": asked["title"], "description": asked.get("description", ""), "author": {"name": user[0]},
                                 "status": "draft" if asked.get("pullRequest") else "open", "isPullRequest": bool(asked.get("pullRequest")),
                                 "createdAt": "2026-01-01T00:00:00.000Z", "repo": {"name": repo.name, "type": "dataset"}})
        return {"num": number}

    def discussion(self, repo, number, **_):
        if int(number) > len(repo.discussions): raise failure(404, "", "no such discussion")
        return {**repo.discussions[int(number) - 1], "events": [], "filesWithConflicts": [], "changes": {"base": "refs/heads/main"}}

    def validate_yaml(self, **_):
        return {"errors": [], "warnings": []}

    def xet_token(self, repo, **_):
        return {"accessToken": "xet", "exp": int(time.time()) + 3600, "casUrl": f"{self.store_url}/xet/{repo.name}"}

    def xorb(self, oid, body, **_):
        self.xorbs[oid] = xorb_chunks(body)
        return {"was_inserted": True}

    def shard(self, repo, body, **_):
        for oid, segments in shard_files(body).items():
            content = b"".join(b"".join(self.xorbs[xorb][first:end]) for xorb, first, end in segments)
            if hashlib.sha256(content).hexdigest() != oid: raise failure(400, "", "these bytes have another hash")
            repo.store(content)
        return {"result": 1}

    def preupload(self, repo, rev, body, **_):
        files = repo.tree(self.require(repo, rev))
        result = []
        for file in json.loads(body)["files"]:
            base64.b64decode(file["sample"], validate=True)
            is_lfs = file["path"].endswith(".safetensors") or file["size"] > 10_000_000
            item = {"path": file["path"], "uploadMode": "lfs" if is_lfs else "regular", "shouldIgnore": False}
            if file["path"] in files:
                entry = self.entry(repo, file["path"], *files[file["path"]])
                item["oid"] = entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]
            result.append(item)
        return {"files": result}

    def batch(self, repo, body, **_):
        asked = json.loads(body)
        objects = []
        for item in asked["objects"]:
            answer = {"oid": item["oid"], "size": item["size"], "authenticated": True}
            is_there = (repo.lfs / item["oid"]).exists()
            target = f"{self.store_url}/store/{repo.name}/{item['oid']}"
            if asked["operation"] == "download":
                if is_there: answer["actions"] = {"download": {"href": target + "?signature=secret"}}
                else: answer["error"] = {"code": 404, "message": "not there"}
            elif not is_there:
                base = f"{self.url}/datasets/{repo.name}.git/info/lfs"
                answer["actions"] = {"upload": {"href": target + "?signature=secret"}, "verify": {"href": base + "/verify"}}
                if item["size"] >= self.multipart_from and "multipart" in asked.get("transfers", []):
                    count = -(-item["size"] // self.part_size)
                    answer["actions"]["upload"] = {"href": f"{base}/complete/{item['oid']}", "header": {
                        "chunk_size": str(self.part_size), **{f"{i + 1:05}": f"{target}/part/{i + 1}?signature=secret" for i in range(count)}}}
            objects.append(answer)
        return Answer(200, json.dumps({"transfer": "basic", "objects": objects}).encode(), {"Content-Type": "application/vnd.git-lfs+json"})

    def put(self, repo, oid, body, **_):
        if hashlib.sha256(body).hexdigest() != oid: raise failure(400, "", "these bytes have another hash")
        (repo.lfs / (oid + ".partial")).write_bytes(body)
        os.rename(repo.lfs / (oid + ".partial"), repo.lfs / oid)
        return b""

    def put_part(self, repo, oid, part, body, **_):
        tag = hashlib.md5(body).hexdigest()
        self.parts.setdefault(oid, {})[int(part)] = (tag, body)
        return Answer(200, b"", {"ETag": f'"{tag}"'})

    def complete(self, repo, oid, body, **_):
        parts, asked = self.parts.pop(oid), json.loads(body)
        if asked["oid"] != oid or [(p["partNumber"], p["etag"].strip('"')) for p in asked["parts"]] != \
                [(i, parts[i][0]) for i in sorted(parts)]: raise failure(400, "", "the parts are not what was sent")
        return self.put(repo=repo, oid=oid, body=b"".join(parts[i][1] for i in sorted(parts)))

    def verify(self, repo, body, **_):
        asked = json.loads(body)
        path = repo.lfs / asked["oid"]
        if not path.exists() or path.stat().st_size != asked["size"]: raise failure(404, "", "not uploaded")
        return b""

    def commit(self, repo, rev, user, query, body, **_):
        lines = [json.loads(line) for line in body.decode().splitlines()]
        header = lines[0]["value"]
        with repo.lock:
            head = self.require(repo, rev)
            parent = header.get("parentCommit") or head
            opens = query.get("create_pr") == "1"
            if parent != head and not opens:
                raise failure(412, "", "A commit has happened since. Please refresh and try again.")
            files = {}
            for line in lines[1:]:
                value = line["value"]
                if line["key"] == "file": files[value["path"]] = base64.b64decode(value["content"], validate=True)
                elif line["key"] == "lfsFile":
                    if not (repo.lfs / value["oid"]).exists(): raise failure(400, "", f"{value['path']}: its object was not uploaded")
                    files[value["path"]] = pointer(value["oid"], (repo.lfs / value["oid"]).stat().st_size)
                else: raise failure(400, "", line["key"])
            if self.lies:
                path = next(path for path in files if path.endswith(".safetensors"))
                files[path] = repo.store(b"something else")
            commit = repo.commit(parent, files, header["summary"], header.get("description", ""))
            answer = {"success": True, "commitOid": commit, "commitUrl": f"{self.url}/datasets/{repo.name}/commit/{commit}", "hookOutput": ""}
            if opens:
                number = len(repo.discussions) + 1
                repo.move(f"refs/pr/{number}", commit)
                repo.discussions.append({"num": number, "title": header["summary"], "description": header.get("description", ""),
                    "author": {"name": user[0]}, "status": "open", "isPullRequest": True, "createdAt": "2026-01-01T00:00:00.000Z",
                    "repo": {"name": repo.name, "type": "dataset"}})
                answer["pullRequestUrl"] = f"{self.url}/datasets/{repo.name}/discussions/{number}"
            else:
                repo.move(rev if rev.startswith("refs/") else f"refs/heads/{rev}", commit)
        return answer

    def resolve(self, repo, rev, path, **_):
        commit = self.require(repo, rev)
        files = repo.tree(commit)
        if path not in files: raise failure(404, "EntryNotFound", "Entry not found")
        content = repo.content(files[path][0])
        found = parse_pointer(content)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{found[0] if found else files[path][0]}"'}
        if not found: return Answer(200, content, {**headers, "Accept-Ranges": "bytes"})
        return Answer(302, b"", {**headers, "X-Linked-Size": str(found[1]), "X-Linked-ETag": f'"{found[0]}"',
                                 "Location": f"{self.store_url}/store/{repo.name}/{found[0]}?signature=secret"})

    def get(self, repo, oid, **_):
        if not (repo.lfs / oid).exists(): raise failure(404, "", "not there")
        return Answer(200, (repo.lfs / oid).read_bytes(), {"ETag": f'"{oid}"'})

    def smart(self, repo, service, query, body, handler, **_):
        """git's own CGI."""
        if handler.headers.get("Content-Encoding") == "gzip":
            import gzip
            body = gzip.decompress(body)
        env = {**os.environ, "GIT_PROJECT_ROOT": str(repo.git), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": "/" + service,
               "REQUEST_METHOD": handler.command, "QUERY_STRING": urllib.parse.urlencode(query), "REMOTE_USER": "writer",
               "CONTENT_TYPE": handler.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(body)),
               "GIT_PROTOCOL": handler.headers.get("Git-Protocol", "")}
        done = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        return Answer(int(headers.pop("Status", "200 OK").split()[0]), content, headers)
