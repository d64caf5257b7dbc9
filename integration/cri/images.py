#!/usr/bin/env python3
"""The images that Kubernetes' CRI suite wants, made of busybox and served by a registry on loopback.

images.py BUSYBOX STAND-INS ARCH: prints the port once it serves, and serves until it is killed. Names are those of
the suite without their registry: a mirror for registry.k8s.io, k8s.gcr.io and gcr.io leads here.
"""
import gzip, hashlib, http.server, io, json, subprocess, sys, tarfile

busybox, stand_ins, arch = sys.argv[1:4]
blobs = {}      # digest -> bytes
manifests = {}  # (repository, tag or digest) -> digest
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def keep(data):
    digest = digest_of(data)
    blobs[digest] = data
    return digest


def layer(files):
    """files: path -> (kind, content, mode); a descriptor, and the digest of the uncompressed layer."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        # Links behind what they link to. Hard ones: a spec masks one applet, and a mount on a symbolic link would mask all.
        for path, (kind, content, mode) in sorted(files.items(), key=lambda one: (one[1][0] == "link", one[0])):
            info = tarfile.TarInfo(path)
            info.mode = mode
            if kind == "dir":
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            elif kind == "link":
                info.type, info.linkname = tarfile.LNKTYPE, content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    plain = out.getvalue()
    packed = gzip.compress(plain, 1, mtime=0)
    media = "application/vnd.oci.image.layer.v1.tar+gzip"
    return {"mediaType": media, "digest": keep(packed), "size": len(packed)}, digest_of(plain)


def publish(names, layers, config):
    document = {"architecture": arch, "os": "linux", "created": "2020-01-01T00:00:00Z", "config": config,
                "rootfs": {"type": "layers", "diff_ids": [diff for _, diff in layers]}}
    data = json.dumps(document).encode()
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": keep(data), "size": len(data)},
        "layers": [descriptor for descriptor, _ in layers]}).encode()
    digest = keep(manifest)
    for name in names:
        repository, tag = name.rsplit(":", 1)
        manifests[repository, tag] = manifests[repository, digest] = digest


def file(content, mode=0o644):
    return ("file", content if isinstance(content, bytes) else content.encode(), mode)


def make_images():
    base = {path: ("dir", None, mode) for path, mode in {
        "bin": 0o755, "dev": 0o755, "etc": 0o755, "home": 0o755, "lib": 0o755, "mnt": 0o755, "proc": 0o755,
        "root": 0o700, "run": 0o755, "sbin": 0o755, "sys": 0o755, "tmp": 0o1777, "usr": 0o755, "usr/bin": 0o755,
        "usr/sbin": 0o755, "var": 0o755, "var/lib": 0o755, "var/run": 0o755, "var/tmp": 0o1777}.items()}
    base["bin/busybox"] = file(open(busybox, "rb").read(), 0o755)
    for applet in subprocess.check_output([busybox, "--list"], text=True).split():
        if applet != "busybox":
            base["bin/" + applet] = ("link", "bin/busybox", 0o755)
    programs = open(stand_ins, "rb").read()
    for name in ("bin/sh", "usr/bin/pgrep", "usr/bin/ipcs"):
        base[name] = file(programs, 0o755)
    base["etc/passwd"] = file("root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/false\n"
                              "nobody:x:65534:65534:nobody:/home:/bin/false\n")
    base["etc/group"] = file("root:x:0:\nwww-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n")
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    box, shell = layer(base), {"Env": [path], "Cmd": ["sh"]}
    publish(["e2e-test-images/busybox:1.29-2"], [box], shell)
    publish(["pause:3.9", "pause:3.10", "pause:3.10.2"], [box],
            {"Env": [path], "Entrypoint": ["sleep", "2147483647"]})

    nginx = layer({"usr/sbin/nginx": file(programs, 0o755), "usr/sbin/httpd": file(programs, 0o755)})
    command = lambda port: {"Env": [path], "Cmd": ["nginx", str(port), "master process"]}
    publish(["e2e-test-images/httpd:2.4.39-4"], [box, nginx], {"Env": [path], "Cmd": ["/usr/sbin/httpd", "80"]})
    publish(["e2e-test-images/nonewprivs:1.3"], [box, layer({"nnp": file(programs, 0o4755)})],
            {"Env": [path], "Cmd": ["/nnp"]})
    publish(["e2e-test-images/nginx:1.14-2"], [box, nginx], command(80))
    tools = "k8s-staging-cri-tools/"
    publish([f"{tools}hostnet-nginx-{arch}:latest"], [box, nginx], command(12003))

    test = lambda text: layer({text: file(text)})
    publish([tools + "test-image-latest:latest"], [box, test("latest")], shell)
    publish([tools + "test-image-tag:test"], [box, test("tag")], shell)
    publish([tools + "test-image-tag:all"], [box, test("all")], shell)
    publish([tools + "test-image-digest:test"], [box, test("digest")], shell)
    for i in "123":
        publish([f"{tools}test-image-{i}:latest"], [box, test(i)], shell)
    publish([f"{tools}test-image-tags:{i}" for i in "123"], [box, test("tags")], shell)
    for name, user in (("uid", "1002"), ("username", "www-data"), ("uid-group", "1003:1003"),
                       ("username-group", "www-data:100")):
        publish([f"{tools}test-image-user-{name}:latest"], [box], dict(shell, User=user))
    group = layer({
        "etc/passwd": file(base["etc/passwd"][1] + b"default-user:x:1000:1000::/home:/bin/sh\n"),
        "etc/group": file(base["etc/group"][1] +
                          b"default-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n")})
    publish([tools + "test-image-predefined-group:latest"], [box, group], dict(shell, User="1000"))


class Registry(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = self.path.split("?")[0]
        kind, data = "application/json", b"{}"
        parts = path.split("/")
        if path.startswith("/v2/") and len(parts) > 4 and parts[-2] in ("manifests", "blobs"):
            repository, reference = "/".join(parts[2:-2]), parts[-1]
            kind = MANIFEST if parts[-2] == "manifests" else "application/octet-stream"
            data = blobs.get(manifests.get((repository, reference)) if parts[-2] == "manifests" else reference)
        elif path not in ("/v2", "/v2/"):
            data = None
        if data is None:
            self.send_response(404)
            self.send_header("Content-Type", "application/json")
            data = b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"not there"}]}'
        else:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            if parts[-2:-1] == ["manifests"]:
                self.send_header("Docker-Content-Digest", digest_of(data))
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


make_images()
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
print(server.server_port, flush=True)
server.serve_forever()
