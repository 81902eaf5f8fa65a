# The three images for those who build with Docker; `cargo xtask image` makes the same without it.
#
#   docker build --target cdmo-controller --tag cdmo/cdmo-controller:0.1.0 .
#   docker build --target mig-node-agent --tag cdmo/mig-node-agent:0.1.0 .
#   docker build --target fake-nvml --tag cdmo/fake-nvml:0.1.0 .

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package cdmo-controller --package mig-node-agent --package fake-nvml \
    && mkdir /out \
    && cp target/release/cdmo-controller target/release/mig-node-agent target/release/fake-nvml-install /out/ \
    && cp target/release/libfake_nvml.so /out/libnvidia-ml.so.1

# A C library and nothing else: the agent opens the driver's library, so it cannot be linked statically.
FROM gcr.io/distroless/cc-debian12 AS base

FROM base AS cdmo-controller
COPY --from=build /out/cdmo-controller /usr/bin/
USER 65532:65532
ENTRYPOINT ["/usr/bin/cdmo-controller"]

FROM base AS mig-node-agent
COPY --from=build /out/mig-node-agent /usr/bin/
USER 0:0
ENTRYPOINT ["/usr/bin/mig-node-agent"]

FROM base AS fake-nvml
COPY --from=build /out/fake-nvml-install /usr/bin/
COPY --from=build /out/libnvidia-ml.so.1 /usr/lib/
USER 0:0
ENTRYPOINT ["/usr/bin/fake-nvml-install", "/usr/lib/libnvidia-ml.so.1"]
