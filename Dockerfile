# One image, rootless: the program in a virtual environment, its Tailscale node inside the wheel.
#
#   docker build -t repo-guardian .
#   docker run --read-only --cap-drop ALL --security-opt no-new-privileges \
#     -v repo-guardian:/var/lib/repo-guardian --env-file .env repo-guardian
#
# Both stages stand on the same base, so any Debian-like image with python3 (3.11 or later) and its venv
# module will do; no compiler and no Go image is needed, because Go comes as a wheel.
ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
RUN python3 -m venv /tools && python3 -m venv --without-pip /opt/repo-guardian
COPY LICENSE README.md pyproject.toml ./
COPY repo_guardian repo_guardian
COPY tsnet_bridge tsnet_bridge
# -v, so that the two minutes of the Go build show that they live. The caches make the next build short.
RUN --mount=type=cache,target=/root/.cache --mount=type=cache,target=/root/go \
    /tools/bin/pip wheel -v --no-deps --wheel-dir /wheel . \
    && /tools/bin/pip --python /opt/repo-guardian/bin/python install "$(echo /wheel/*.whl)[postgres]"

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="repo-guardian" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/repo-guardian /opt/repo-guardian
# The one writable folder; a volume mounted here takes over owner and mode.
RUN install -d -m 0700 -o 65532 -g 65532 /var/lib/repo-guardian
# HOME: there is no passwd entry for this user, and / is read-only.
ENV PATH=/opt/repo-guardian/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/var/lib/repo-guardian \
    DATA_DIR=/var/lib/repo-guardian
USER 65532:65532
WORKDIR /var/lib/repo-guardian
VOLUME /var/lib/repo-guardian
EXPOSE 8080 9090
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD ["python", "-c", "\
import os, urllib.request as web; \
port = os.environ.get('METRICS_ADDR', ':9090').rpartition(':')[2]; \
web.urlopen(f'http://127.0.0.1:{port}/healthz', timeout=4)"]
ENTRYPOINT ["repo-guardian"]
CMD ["run"]
