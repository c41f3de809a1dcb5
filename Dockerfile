# The images of Comet, one target for each program:
#
#   docker build --target comet -t comet .
#   docker build --target logic-stub -t logic-stub .
#   docker build --target standalone -t comet-standalone .
#
# It needs nothing of BuildKit: the classic builder takes it too.

FROM rust:1.95-bookworm AS build
WORKDIR /build

# The dependencies alone, for members that are empty: this layer stays while only sources change. What it leaves of the members is
# cleaned away, or cargo would take them for newer than the sources.
COPY Cargo.toml Cargo.lock ./
COPY protocol/Cargo.toml protocol/
COPY common/Cargo.toml common/
COPY comet/Cargo.toml comet/
COPY logic-stub/Cargo.toml logic-stub/
COPY standalone/Cargo.toml standalone/
COPY bench/Cargo.toml bench/
RUN for member in protocol common comet logic-stub standalone bench; do mkdir $member/src && touch $member/src/lib.rs || exit 1; done \
    && for main in protocol/build.rs comet/src/main.rs logic-stub/src/main.rs standalone/src/main.rs bench/src/main.rs; do \
         echo 'fn main() {}' > $main || exit 1; \
       done \
    && mkdir protocol/benches comet/benches && touch protocol/benches/counts.rs comet/benches/counts.rs \
    && cargo build --locked --profile dist -p comet -p logic-stub -p standalone \
    && cargo clean --profile dist -p protocol -p common -p comet -p logic-stub -p standalone \
    && rm -r protocol/benches comet/benches

COPY protocol protocol
COPY common common
COPY comet comet
COPY logic-stub logic-stub
COPY standalone standalone
# What --version says beside the number: git rev-parse --short=12 HEAD
ARG COMET_COMMIT=""
RUN COMET_COMMIT="$COMET_COMMIT" cargo build --locked --profile dist -p comet -p logic-stub -p standalone \
    && mkdir /programs \
    && mv target/dist/comet target/dist/logic-stub target/dist/comet-standalone /programs/

# Any user but root; none of the programs writes a file, so the file system may be read-only.
FROM debian:bookworm-slim AS run
ARG COMET_COMMIT=""
LABEL org.opencontainers.image.title="Comet" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.revision="$COMET_COMMIT"
WORKDIR /
USER 65532:65532

FROM run AS comet
COPY --from=build /programs/comet /usr/local/bin/
EXPOSE 3101 3102 3109 3110
HEALTHCHECK --interval=5s --timeout=5s --retries=3 CMD ["comet", "--health"]
ENTRYPOINT ["comet"]

FROM run AS logic-stub
COPY --from=build /programs/logic-stub /usr/local/bin/
EXPOSE 3111 3119 3120
HEALTHCHECK --interval=5s --timeout=5s --retries=3 CMD ["logic-stub", "--health"]
ENTRYPOINT ["logic-stub"]

# Listens on loopback alone, as outside of a container: docker run --rm --network host comet-standalone
FROM run AS standalone
COPY --from=build /programs/comet-standalone /usr/local/bin/
EXPOSE 3101 3102 3109 3110 3111 3119 3120
HEALTHCHECK --interval=5s --timeout=5s --retries=3 CMD ["comet-standalone", "--health"]
ENTRYPOINT ["comet-standalone"]
