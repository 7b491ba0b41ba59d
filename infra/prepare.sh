#!/usr/bin/env bash
# What the machine itself must have: `prepare.sh python|test|demo`. Does nothing where all is there. As root on Debian it
# installs what is missing; otherwise it says what that is, and what cannot be done without it.
set -euo pipefail
purpose=${1:?python, test or demo}
python=${PYTHON:-python3}
packages=()
prometheus=$(dirname "$0")/../.cache/prometheus

has_python() { "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
has_venv() { "$python" -c 'import ensurepip, venv' 2>/dev/null; }
has_java() { java -XX:-UsePerfData -version 2>&1 | grep -qE 'version "(1[7-9]|[2-9][0-9])'; }
has_jars() {  # those that today's pom.xml asks for, as infra/broker/jars.py has it
  local kept
  for kept in "$(dirname "$0")"/../.cache/kafka/*/pom.xml; do
    if cmp -s "$kept" "$(dirname "$0")/broker/pom.xml"; then return 0; fi
  done
  return 1
}
has_build() { [ "$purpose" != test ] || compgen -G "$(dirname "$0")/../.cache/java/*/classes" >/dev/null; }  # of the Java participant
has_prometheus() { command -v promtool >/dev/null || [ -x "$prometheus/usr/bin/promtool" ]; }
has_chromium() { command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null; }
has_font() { [ -e /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf ] || ! command -v apt-get >/dev/null; }  # Chromium alone has none
has_maven() { command -v mvn >/dev/null || { has_jars && has_build; }; }

missing() {
  packages=()
  if [ "$purpose" = python ]; then
    has_python || packages+=(python3)
    has_venv || packages+=(python3-venv)
  else
    has_java || packages+=(openjdk-17-jre-headless)
    has_maven || packages+=(maven)
  fi
  if [ "$purpose" = test ]; then  # the examples of docs/PROTOCOL.md are run as they stand there
    command -v kcat >/dev/null || packages+=(kcat)
    command -v curl >/dev/null || packages+=(curl)
    has_prometheus || packages+=(prometheus)
    has_chromium || packages+=(chromium)
    has_font || packages+=(fonts-dejavu-core)
  fi
  [ ${#packages[@]} -gt 0 ]
}

install() {
  echo "installing ${packages[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  # Debian 13 has no Java 17 any more; its default is newer, which serves as well.
  if ! apt-cache show openjdk-17-jre-headless >/dev/null 2>&1; then
    packages=("${packages[@]/openjdk-17-jre-headless/default-jre-headless}")
  fi
  local package wanted=()
  for package in "${packages[@]}"; do
    if [ "$package" = prometheus ]; then unpack_prometheus; else wanted+=("$package"); fi
  done
  [ ${#wanted[@]} = 0 ] || apt-get install -y -qq --no-install-recommends "${wanted[@]}" >/dev/null
}

# Installed, the package would start a server on this machine and at each of its starts. Only its programs are wanted.
unpack_prometheus() {
  local fetched
  fetched=$(mktemp -d)
  if (cd "$fetched" && apt-get download -qq -o APT::Sandbox::User=root prometheus >/dev/null); then
    mkdir -p "$prometheus"
    dpkg-deb --extract "$fetched"/prometheus_*.deb "$prometheus"
  fi
  rm -rf "$fetched"
}

missing || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  install || echo "apt-get could not install ${packages[*]}" >&2
  missing || exit 0
fi

echo "missing on this machine: ${packages[*]} (as root on Debian: apt-get install ${packages[*]})" >&2
case $purpose in
  python) echo "Python 3.11 or newer with venv is needed for everything; if it has another name: make PYTHON=python3.12 ..." >&2 ;;
  demo)
    echo "a real Kafka broker needs Java 17 or newer, and Maven to fetch it once; the demo does without" >&2
    exit 0
    ;;
  test)
    if [ -n "${SAGA_TEST_BOOTSTRAP:-}" ]; then
      echo "the broker's own tests will fail; the others use the broker at $SAGA_TEST_BOOTSTRAP" >&2
    else
      echo "skipped therefore: the tests that need it (they say so)" >&2
    fi
    exit 0
    ;;
esac
exit 1
