"""The projects of docker_projects.py: compose files as people write them, stand-ins for their images, and what must hold while they run.

An image here is busybox with a script in place of the real program. It serves its name on its ports, insists on the settings that the real
one insists on, and keeps its state where the real one does, so that a project behaves as with the real image.
"""

# name: (ports, script before it serves, settings of the Dockerfile)
SERVE = "for port in $PORTS; do httpd -p $port -h /www; done\necho \"$NAME is ready\"\n"
STAY = "trap 'echo stopping; exit 0' TERM INT\nwhile :; do sleep 1 & wait $!; done\n"
YARN = """#!/bin/sh
if [ $1 = install ]; then
  echo installed >> node_modules
  exit
fi
until wget -q -O /www/db http://$MYSQL_HOST:3306/name; do sleep 0.2; done
httpd -p 3000 -h /www
echo Listening on port 3000
""" + STAY


def connects(file, url):
    """What a program does that needs another one: it tries for some seconds."""
    return "n=0\nuntil wget -q -O %s %s; do n=$((n + 1)); [ $n -lt 50 ] || exit 1; sleep 0.1; done\n" % (file, url)


IMAGES = {
    "node:18-alpine": ("", "", "CMD [\"node\"]"),
    "mysql:8.0": ("3306", "[ -n \"$MYSQL_ROOT_PASSWORD\" ] || { echo 'Database is uninitialized and password option is not specified' >&2; exit 1; }\n"
                          "echo \"$MYSQL_DATABASE\" >> /var/lib/mysql/databases\n", "VOLUME /var/lib/mysql\nEXPOSE 3306 33060"),
    "mariadb:10.6": ("3306", "[ -n \"$MARIADB_ROOT_PASSWORD\" ] || exit 1\nsleep 1\ntouch /tmp/alive\necho \"$MARIADB_DATABASE\" >> /var/lib/mysql/databases\n",
                     "VOLUME /var/lib/mysql\nEXPOSE 3306"),
    "postgres": ("5432", "[ -n \"$POSTGRES_PASSWORD\" ] || POSTGRES_PASSWORD=$(cat $POSTGRES_PASSWORD_FILE)\n[ -n \"$POSTGRES_PASSWORD\" ] || exit 1\n"
                         "mkdir -p ${PGDATA:-/var/lib/postgresql/data}\necho 14 > ${PGDATA:-/var/lib/postgresql/data}/PG_VERSION\ntouch /tmp/alive\n",
                 "VOLUME /var/lib/postgresql/data\nEXPOSE 5432\nSTOPSIGNAL SIGINT"),
    "redis": ("6379", "touch /tmp/alive\n", "VOLUME /data\nWORKDIR /data\nEXPOSE 6379"),
    "nginx": ("80", "[ -d /usr/share/nginx/html ] && cp -r /usr/share/nginx/html/. /www\n", "EXPOSE 80\nSTOPSIGNAL SIGQUIT"),
    "wordpress:6": ("80", connects("/www/db", "http://$WORDPRESS_DB_HOST:3306/name"), "VOLUME /var/www/html\nEXPOSE 80"),
    "python:3.11-slim": ("", "", "CMD [\"python3\"]"),
    "elasticsearch:8": ("9200 9300", "[ \"$(ulimit -l)\" = unlimited ] || exit 78\n", "VOLUME /usr/share/elasticsearch/data\nEXPOSE 9200 9300"),
    "kibana:8": ("5601", connects("/www/es", "$ELASTICSEARCH_HOSTS/name"), "EXPOSE 5601"),
    "traefik:v2.10": ("80 8080", "[ -S /var/run/docker.sock ] || exit 1\n", "EXPOSE 80"),
    "traefik/whoami": ("80", "hostname > /www/name\n", "EXPOSE 80"),
    "prom/prometheus": ("9090", "grep -q scrape_configs /etc/prometheus/prometheus.yml || exit 1\n", "VOLUME /prometheus\nEXPOSE 9090\nUSER 65534"),
    "grafana/grafana": ("3000", "[ \"$(cat $GF_SECURITY_ADMIN_PASSWORD__FILE)\" = s3cret ] || exit 1\n", "EXPOSE 3000\nUSER 472"),
    "gitea/gitea:1": ("3000 22", connects("/www/db", "http://${GITEA__database__HOST}/name"), "VOLUME /data\nEXPOSE 22 3000"),
    "zookeeper:3": ("2181", "echo ${ZOO_MY_ID:-0} > /data/myid\ntouch /tmp/alive\n", "VOLUME /data\nEXPOSE 2181"),
    "kafka:3": ("9092", connects("/www/zk", "http://${KAFKA_ZOOKEEPER_CONNECT}/name") + "touch /tmp/alive\n", "EXPOSE 9092"),
}


def context_of(name, base):
    """The files from which the stand-in is built."""
    ports, before, more = IMAGES[name]
    return {"Dockerfile": "FROM %s\nCOPY start yarn python3 /bin/\nRUN mkdir -p /www /var/lib/mysql /var/lib/postgresql/data /data /prometheus /etc/prometheus"
                          " /var/run && chmod 777 /www /data /prometheus && chmod 755 /bin/start /bin/yarn /bin/python3 && echo %s > /www/name"
                          " && chmod 666 /www/name\nCMD [\"start\"]\n%s\n" % (base, name, more),
            "start": "#!/bin/sh\nNAME=%s PORTS='%s'\n%s%s%s" % (name, ports, before, SERVE, STAY),
            "yarn": YARN, "python3": "#!/bin/sh\nexec sh \"$@\"\n"}


# ---- the projects: (files, check). A check is given a `Run` of docker_projects.py after the first `up`.

def todo(p):
    p.serves("app", 3000, "mysql:8.0", path="/db")
    p.holds("Listening on port 3000" in p.logs("app"), "logs of app")
    p.same(p.inspect("app")["Config"]["Cmd"], ["sh", "-c", "yarn install && yarn run dev"])
    # As it was asked for: with ":rw" by docker compose, without by ctl's.
    p.holds("%s:/app" % p.directory in [one.removesuffix(":rw") for one in p.inspect("app")["HostConfig"]["Binds"]], p.inspect("app")["HostConfig"]["Binds"])
    p.same(p.exec("mysql", "cat", "/var/lib/mysql/databases"), "todos\n")
    p.holds(p.name + "_todo-mysql-data" in p.docker("volume", "ls", "-q").split(), "the volume")
    p.holds(p.name + "_default" in p.docker("network", "ls", "--format", "{{.Name}}").split(), "the network")


def header(p):
    p.fetches("http://127.0.0.1:8080/name", "nginx\n")
    port = p.compose("port", "db", "5432").stdout.strip()
    p.fetches("http://127.0.0.1:%s/name" % port.rsplit(":", 1)[1], "postgres\n")


def frontend(p):
    p.same(sorted(p.inspect("web")["NetworkSettings"]["Networks"]), [p.name + "_frontend"])
    p.same(sorted(p.inspect("db")["NetworkSettings"]["Networks"]), [p.name + "_default"])
    p.holds(p.compose("exec", "-T", "web", "nslookup", "db", code=None).returncode != 0, "db is seen from another network")


def wordpress(p):
    p.fetches("http://127.0.0.1:8081/db", "mariadb:10.6\n")
    p.same(p.inspect("db")["State"]["Health"]["Status"], "healthy")
    p.holds(p.inspect("wordpress")["State"]["StartedAt"] > p.inspect("db")["State"]["Health"]["Log"][0]["End"][:19], "wordpress did not wait")
    p.compose("stop", "-t", "5", "db")
    p.same(p.inspect("db")["State"]["ExitCode"], 0)
    p.compose("start", "db")
    p.until(lambda: p.exec("db", "cat", "/var/lib/mysql/databases") == "wp\nwp\n", "db has not started on its own data")


def django(p):
    p.same(p.inspect("migrate")["State"]["ExitCode"], 0)
    p.holds("migrated" in p.logs("migrate"), p.logs("migrate"))
    p.serves("web", 8000, "debug=on")
    p.same(len(p.ids("worker")), 2)
    p.compose("up", "-d", "--scale", "worker=4")
    p.same(len(p.ids("worker")), 4)
    p.compose("up", "-d", "--scale", "worker=2", "-t", "1")
    p.same(len(p.ids("worker")), 2)
    p.same(p.compose("run", "--rm", "-T", "web", "sh", "-c", "echo $DEBUG $(cat /app/VERSION)").stdout, "on 7\n")


def elastic(p):
    p.serves("kibana", 5601, "elasticsearch:8", path="/es")
    es = p.inspect("elasticsearch")
    p.same([(u["Name"], u["Soft"], u["Hard"]) for u in es["HostConfig"]["Ulimits"]], [("memlock", -1, -1)])
    p.same(es["HostConfig"]["Memory"], 256 << 20)
    p.same(es["NetworkSettings"]["Networks"][p.name + "_elk"]["IPAddress"], "172.28.0.10")
    p.holds("search" in (es["NetworkSettings"]["Networks"][p.name + "_elk"]["Aliases"] or []), "alias")
    p.same(p.exec("kibana", "wget", "-q", "-O", "-", "http://search:9200/name"), "elasticsearch:8\n")


def traefik(p):
    p.same(len(p.ids("whoami")), 3)
    names = {p.docker("exec", one, "cat", "/www/name") for one in p.ids("whoami")}
    p.same(len(names), 3)
    p.holds("traefik.enable" in p.inspect("whoami")["Config"]["Labels"], "labels")
    mounts = {m["Destination"]: m for m in p.inspect("traefik")["Mounts"]}
    p.same(mounts["/var/run/docker.sock"]["RW"], False)
    p.fetches("http://127.0.0.1:8082/name", "traefik:v2.10\n")


def monitoring(p):
    p.fetches("http://127.0.0.1:9090/name", "prom/prometheus\n")
    p.fetches("http://127.0.0.1:3001/name", "grafana/grafana\n")
    p.same(p.exec("grafana", "id", "-u"), "472\n")
    prometheus = p.inspect("prometheus")["HostConfig"]
    p.same((prometheus["ReadonlyRootfs"], prometheus["RestartPolicy"]["Name"]), (True, "unless-stopped"))
    p.holds(p.compose("exec", "-T", "prometheus", "touch", "/x", code=None).returncode != 0, "a read-only root is written")
    p.compose("restart", "-t", "2", "prometheus")
    p.fetches("http://127.0.0.1:9090/name", "prom/prometheus\n")


def gitea(p):
    p.fetches("http://127.0.0.1:3002/db", "postgres\n")
    p.same(p.exec("db", "cat", "/run/secrets/db_password"), "hunter2\n")
    p.same(p.docker("network", "inspect", "-f", "{{.Internal}}", p.name + "_back").strip(), "true")
    p.same(sorted(p.inspect("server")["NetworkSettings"]["Networks"]), [p.name + "_back", p.name + "_front"])
    p.compose("pause", "server")
    p.same(p.inspect("server")["State"]["Status"], "paused")
    p.compose("unpause", "server")
    p.compose("kill", "-s", "SIGKILL", "server")
    p.compose("start", "server")


def kafka(p):
    p.same(p.inspect("kafka")["State"]["Health"]["Status"], "healthy")
    p.same(p.exec("zookeeper", "cat", "/data/myid"), "3\n")
    p.same(p.exec("kafka", "hostname"), "broker\n")
    p.holds("10.1.2.3" in p.exec("kafka", "cat", "/etc/hosts"), "extra_hosts")
    kafka = p.inspect("kafka")["HostConfig"]
    p.same((kafka["Init"], kafka["CapAdd"], kafka["LogConfig"]["Config"].get("max-size")), (True, ["CAP_NET_ADMIN"], "1m"))
    p.same(p.exec("kafka", "cat", "/proc/sys/net/core/somaxconn"), "2048\n")
    p.same(p.compose("ps", "-q", "tool", code=None).stdout.strip(), "")
    p.same(p.compose("run", "--rm", "-T", "tool").stdout, "kafka:3\n")


PROJECTS = {
    "todo": (todo, {"docker-compose.yml": """services:
  app:
    image: node:18-alpine
    command: sh -c "yarn install && yarn run dev"
    ports: ["127.0.0.1:3000:3000"]
    working_dir: /app
    volumes: [./:/app]
    environment: {MYSQL_HOST: mysql, MYSQL_USER: root, MYSQL_PASSWORD: secret, MYSQL_DB: todos}
    depends_on: [mysql]
  mysql:
    image: mysql:8.0
    volumes: [todo-mysql-data:/var/lib/mysql]
    environment: {MYSQL_ROOT_PASSWORD: secret, MYSQL_DATABASE: todos}
volumes:
  todo-mysql-data:
"""}),
    "header": (header, {"docker-compose.yml": """version: "3"
services:
  web:
    image: nginx
    ports: ["8080:80"]
    depends_on: [db]
  db:
    image: postgres
    environment: {POSTGRES_PASSWORD: x}
    ports: ["5432"]
"""}),
    "frontend": (frontend, {"docker-compose.yml": """version: "3.8"
services:
  web:
    image: nginx
    networks: [frontend]
  db:
    image: redis
networks:
  frontend:
"""}),
    "wordpress": (wordpress, {"docker-compose.yml": """version: "3.9"
services:
  db:
    image: mariadb:10.6
    restart: always
    command: start
    volumes: [db:/var/lib/mysql]
    environment: [MARIADB_ROOT_PASSWORD=somewordpress, MARIADB_DATABASE=wp]
    expose: [3306, 33060]
    healthcheck: {test: [CMD, test, -f, /tmp/alive], interval: 1s, timeout: 5s, retries: 20}
  wordpress:
    image: wordpress:6
    depends_on: {db: {condition: service_healthy}}
    volumes: [html:/var/www/html]
    ports: ["8081:80"]
    restart: always
    environment: [WORDPRESS_DB_HOST=db]
volumes: {db: {}, html: {}}
"""}),
    "django": (django, {"docker-compose.yml": """version: "3.9"
x-app: &app
  build: .
  image: shop-app:dev
  env_file: [.env.app]
  depends_on:
    db: {condition: service_healthy}
services:
  db:
    image: postgres
    environment: {POSTGRES_PASSWORD: pw}
    volumes: [pg:/var/lib/postgresql/data]
    healthcheck: {test: "test -f /tmp/alive", interval: 1s, retries: 20}
  cache:
    image: redis
  migrate:
    <<: *app
    command: python3 -c 'test "$$DEBUG" = on && echo migrated'
  web:
    <<: *app
    command: python3 -c 'mkdir -p /www; echo debug=$$DEBUG > /www/name; exec httpd -f -p 8000 -h /www'
    ports: ["8000"]
    depends_on:
      migrate: {condition: service_completed_successfully}
      cache: {condition: service_started}
  worker:
    <<: *app
    command: python3 -c 'trap "exit 0" TERM; while :; do sleep 1 & wait; done'
    deploy: {replicas: 2}
volumes: {pg: {}}
""", "Dockerfile": "FROM python:3.11-slim\nWORKDIR /app\nCOPY VERSION .\nRUN test -s VERSION\n", "VERSION": "7\n", ".env.app": "DEBUG=on\n# a remark\n"}),
    "elastic": (elastic, {"docker-compose.yml": """version: "2.4"
services:
  elasticsearch:
    image: elasticsearch:8
    environment: ["discovery.type=single-node", "ES_JAVA_OPTS=-Xms64m -Xmx64m"]
    ulimits: {memlock: {soft: -1, hard: -1}}
    mem_limit: 256m
    cpu_shares: 512
    volumes: [es:/usr/share/elasticsearch/data]
    networks: {elk: {ipv4_address: 172.28.0.10, aliases: [search]}}
  kibana:
    image: kibana:8
    environment: {ELASTICSEARCH_HOSTS: "http://elasticsearch:9200"}
    depends_on: [elasticsearch]
    restart: on-failure
    ports: ["5601"]
    networks: [elk]
networks:
  elk:
    driver: bridge
    ipam: {config: [{subnet: 172.28.0.0/24}]}
volumes: {es: {driver: local}}
"""}),
    "traefik": (traefik, {"docker-compose.yml": """version: "3.3"
services:
  traefik:
    image: traefik:v2.10
    command: start
    ports: ["8082:80", "127.0.0.1:8083:8080"]
    volumes: ["${SOCK}:/var/run/docker.sock:ro"]
    security_opt: ["no-new-privileges:true"]
  whoami:
    image: traefik/whoami
    scale: 3
    labels:
      - "traefik.enable=true"
      - "traefik.http.routers.whoami.rule=Host(`whoami.localhost`)"
"""}),
    "monitoring": (monitoring, {"docker-compose.yml": """version: "3.8"
services:
  prometheus:
    image: prom/prometheus
    read_only: true
    restart: unless-stopped
    volumes: ["./prometheus.yml:/etc/prometheus/prometheus.yml:ro", "data:/prometheus"]
    tmpfs: ["/www:mode=1777", /tmp]
    command: sh -c 'echo prom/prometheus > /www/name && exec start'
    ports: ["9090:9090"]
  grafana:
    image: grafana/grafana
    environment: {GF_SECURITY_ADMIN_PASSWORD__FILE: /run/secrets/admin}
    secrets: [admin]
    ports: ["3001:3000"]
    depends_on: [prometheus]
secrets:
  admin: {file: ./admin.txt}
volumes: {data: {}}
""", "prometheus.yml": "global: {scrape_interval: 15s}\nscrape_configs: []\n", "admin.txt": "s3cret"}),
    "gitea": (gitea, {"docker-compose.yml": """version: "3"
networks:
  front:
  back: {internal: true}
services:
  server:
    image: gitea/gitea:1
    environment:
      - USER_UID=1000
      - GITEA__database__HOST=db:5432
    restart: "no"
    networks: [front, back]
    volumes: ["./gitea:/data", "/etc/hostname:/etc/host-name:ro"]
    ports: ["3002:3000", "222:22"]
    depends_on: [db]
  db:
    image: postgres
    environment: {POSTGRES_PASSWORD_FILE: /run/secrets/db_password}
    networks: [back]
    secrets: [db_password]
    volumes: [./postgres:/var/lib/postgresql/data]
secrets:
  db_password: {file: password.txt}
""", "password.txt": "hunter2\n"}),
    "kafka": (kafka, {"docker-compose.yml": """version: "3.9"
services:
  zookeeper:
    image: zookeeper:3
    environment: {ZOO_MY_ID: 3}
    healthcheck: {test: [CMD-SHELL, "test -f /tmp/alive"], interval: 1s, retries: 20, start_period: 5s}
  kafka:
    image: kafka:3
    hostname: broker
    init: true
    cap_add: [NET_ADMIN]
    sysctls: {net.core.somaxconn: 2048}
    extra_hosts: ["registry.example:10.1.2.3"]
    stop_grace_period: 3s
    environment: {KAFKA_ZOOKEEPER_CONNECT: "zookeeper:2181"}
    depends_on: {zookeeper: {condition: service_healthy}}
    healthcheck: {test: [CMD-SHELL, "test -f /tmp/alive"], interval: 1s, retries: 20}
    logging: {driver: json-file, options: {max-size: 1m, max-file: "2"}}
  tool:
    image: kafka:3
    profiles: [debug]
    command: wget -q -O - http://kafka:9092/name
  probe:
    image: kafka:3
    depends_on: {kafka: {condition: service_healthy}}
    command: wget -q -O - http://kafka:9092/name
"""}),
}
