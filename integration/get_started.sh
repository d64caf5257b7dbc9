#!/usr/bin/env bash
# What docker's manual has its readers do on the first day, in its order, with whatever `docker` is: get_started.sh ctl|docker [COMPOSE]
# ctl: an alias of ctl. docker: docker's command line, with COMPOSE, the docker-compose program, as its plugin. A step that does not do
# what the manual says ends the script with its line.
#
# Runs in an empty directory; needs the image busybox and a registry on localhost:5000.
set -euo pipefail
shopt -s expand_aliases
trap 'echo "get_started.sh:$LINENO: failed: $BASH_COMMAND" >&2' ERR
compose=yes
case $1 in
  ctl) alias docker=ctl ;;
  docker)
    if [ -n "${2:-}" ]; then
      export DOCKER_CONFIG=$PWD/config
      mkdir -p "$DOCKER_CONFIG/cli-plugins"
      ln -s "$2" "$DOCKER_CONFIG/cli-plugins/docker-compose"
    else
      compose=no
    fi
    ;;
esac

# Reads all of it: a program whose reader leaves early has failed.
says() { grep -- "$1" > /dev/null || { echo "no \"$1\" in what was printed" >&2; return 1; }; }
fetch() { busybox wget -q -O - "http://127.0.0.1:3000/$1"; }
# What a server says once it has started.
answers() {
  for _ in $(seq 100); do
    if fetch "$1" 2> /dev/null | grep -- "$2" > /dev/null; then return 0; fi
    sleep 0.1
  done
  echo "127.0.0.1:3000/$1 does not say \"$2\"" >&2
  return 1
}

# --- part 1: containerize an application
mkdir app && cd app
mkdir src
echo '<h1>No items yet! Add one above!</h1>' > src/index.html
cat > Dockerfile << 'END'
# syntax=docker/dockerfile:1

FROM busybox
WORKDIR /app
COPY . .
RUN cp -r src served
CMD ["httpd", "-f", "-p", "3000", "-h", "served"]
EXPOSE 3000
STOPSIGNAL SIGKILL
END
docker build -t getting-started .
docker image ls | says getting-started
docker run -d -p 127.0.0.1:3000:3000 --name first getting-started
answers index.html "No items yet"
docker ps | says "127.0.0.1:3000->3000/tcp"

# --- part 2: update the application
echo '<h1>You have no todo items yet! Add one above!</h1>' > src/index.html
docker build -t getting-started .
if docker run -dp 127.0.0.1:3000:3000 --name second getting-started 2> "$OLDPWD/error"; then exit 1; fi
says "port is already allocated" < "$OLDPWD/error"
docker rm -f second || true
id=$(docker ps -q)
docker stop "$id"
docker rm "$id"
docker run -dp 127.0.0.1:3000:3000 --name first getting-started
answers index.html "You have no todo items"
docker rm -f first

# --- part 3: share the application
docker tag getting-started localhost:5000/you/getting-started
docker push localhost:5000/you/getting-started
docker rmi getting-started localhost:5000/you/getting-started
docker run -dp 0.0.0.0:3000:3000 --name first localhost:5000/you/getting-started
answers index.html "You have no todo items"
docker rm -f first
docker tag localhost:5000/you/getting-started getting-started

# --- part 4: persist the data
docker volume create todo-db
docker run -dp 127.0.0.1:3000:3000 --mount type=volume,src=todo-db,target=/etc/todos --name first getting-started
docker exec first sh -c 'echo milk > /etc/todos/todo.db'
docker rm -f first
docker run -dp 127.0.0.1:3000:3000 --mount type=volume,src=todo-db,target=/etc/todos --name first getting-started
docker exec first cat /etc/todos/todo.db | says milk
docker volume inspect todo-db | says '"Mountpoint"'
docker rm -f first

# --- part 5: use bind mounts
docker run --rm --mount type=bind,src="$(pwd)",target=/src busybox sh -c 'cd /src && ls && touch myfile.txt'
[ -e myfile.txt ]
rm myfile.txt
docker run -dp 127.0.0.1:3000:3000 -w /app --mount type=bind,src="$(pwd)/src",target=/app/served --name dev getting-started \
  sh -c "httpd -f -p 3000 -h served"
answers index.html "You have no todo items"
echo '<h1>Seen at once</h1>' > src/index.html
answers index.html "Seen at once"
docker logs dev
docker rm -f dev

# --- part 6: multi container apps
docker network create todo-app
docker run -d --network todo-app --network-alias mysql --name db -v todo-mysql-data:/var/lib/mysql -e MYSQL_ROOT_PASSWORD=secret \
  -e MYSQL_DATABASE=todos busybox sh -c 'while true; do echo "$MYSQL_DATABASE" | nc -l -p 3306; done'
docker exec db sh -c 'echo $MYSQL_ROOT_PASSWORD' | says secret
docker run --rm --network todo-app busybox nslookup mysql | says "Address"
docker run --rm --network todo-app -e MYSQL_HOST=mysql busybox sh -c 'nc $MYSQL_HOST 3306 < /dev/null' | says todos
docker rm -f db
docker network rm todo-app

# --- part 7: use compose
if [ $compose = yes ]; then
  cat > compose.yaml << 'END'
services:
  app:
    image: getting-started
    command: sh -c "httpd -f -p 3000 -h src"
    ports:
      - 127.0.0.1:3000:3000
    working_dir: /app
    volumes:
      - ./:/app
    environment:
      MYSQL_HOST: mysql

  mysql:
    image: busybox
    command: sh -c "echo ready for connections; sleep 1000"
    stop_signal: SIGKILL
    volumes:
      - todo-mysql-data:/var/lib/mysql
    environment:
      MYSQL_ROOT_PASSWORD: secret
      MYSQL_DATABASE: todos

volumes:
  todo-mysql-data:
END
  docker compose up -d
  answers index.html "Seen at once"
  docker compose logs mysql | says "ready for connections"
  docker compose ps | says app-mysql-1
  docker compose down
  docker volume ls | says app_todo-mysql-data
  docker compose down --volumes
  [ -z "$(docker volume ls -q --filter name=app_todo-mysql-data)" ]
fi

# --- part 8: image-building best practices
docker image history getting-started | says "COPY"
docker image history --no-trunc getting-started | says "httpd"
cat > Dockerfile << 'END'
FROM busybox AS build
WORKDIR /app
COPY src .
RUN echo built > built

FROM busybox
COPY --from=build /app /served
END
docker build -t two-stages .
docker run --rm two-stages cat /served/built | says built

# --- and away with it
docker volume rm todo-db todo-mysql-data
docker system prune -f
[ -z "$(docker ps -aq)" ]
echo "done"
