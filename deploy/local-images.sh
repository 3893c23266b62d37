#!/usr/bin/env bash
# The images that compose.yaml names, made from Debian's packages, for machines that reach no image registry.
#
#   deploy/local-images.sh         as root, with debootstrap, a Docker engine and Python 3's pip
#
# Makes what is missing of
#   pointsman-local/postgres       PostgreSQL, laid out as in the official image: the user postgres, programs on the PATH
#   pointsman-local/python         Python, for the image Pointsman runs in
#   pointsman-local/python-build   the same with a C compiler, for the stage that builds it
#   build/wheels                   what `pip install .` needs, so that the build needs no network; again when that changes
#   build/compose.env              their names, for `docker compose --env-file`
# Debian's suite and mirror are those of this machine's apt, unless DEBIAN_SUITE and DEBIAN_MIRROR say otherwise.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
# shellcheck disable=SC1091
suite=${DEBIAN_SUITE:-$(. /etc/os-release && echo "$VERSION_CODENAME")}
# shellcheck disable=SC2016 # apt's variables
mirror=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' |
    awk -v suite="$suite" '$1 == suite {print $2; exit}')}

# Debian with some packages, as an image.  NAME PACKAGES HOOK
image() {
    local name=$1 packages=$2 hook=$3 root
    if docker image inspect "$name" >/dev/null 2>&1; then
        echo "$name is there"
        return
    fi
    echo "$name: debootstrap $suite with $packages"
    root=$(mktemp -d)
    chmod 755 "$root" # it becomes the image's /
    debootstrap --variant=minbase --include="$packages" "$suite" "$root" "$mirror" >"$root.log" ||
        { tail -n 20 "$root.log" >&2 && return 1; }
    "$hook" "$root"
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale}
    tar -C "$root" -c . | docker import - "$name" >/dev/null
    rm -rf "$root" "$root.log"
}

nothing() { :; }

# Debian's package makes a cluster of its own, keeps most programs off the PATH, and expects its service to make the
# directory for sockets.
postgres_layout() {
    rm -rf "$1"/var/lib/postgresql/* "$1"/etc/postgresql/*
    chroot "$1" sh -c 'ln -s /usr/lib/postgresql/*/bin/* /usr/local/bin/
        install -d -o postgres -g postgres -m 3777 /run/postgresql
        install -d -o postgres -g postgres -m 1777 /var/lib/postgresql'
}

wheels() {
    local version
    version=$(docker run --rm pointsman-local/python python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    rm -rf build/wheels
    echo "build/wheels: pip download for Python $version"
    "$PYTHON" -c '
import tomllib
project = tomllib.load(open("pyproject.toml", "rb"))
hook = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
print("\n".join(project["project"]["dependencies"] + project["build-system"]["requires"] + hook["requires"]))
' >"$work/requirements"
    "$PYTHON" -m pip download --quiet --disable-pip-version-check --only-binary :all: --python-version "$version" \
        -c constraints.txt -r "$work/requirements" -d build/wheels
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
image pointsman-local/postgres postgresql postgres_layout
image pointsman-local/python python3 nothing
image pointsman-local/python-build python3,python3-venv,python3-dev,gcc,libc6-dev nothing
# Those of a checkout that has moved on would be missing some.
if [ ! -d build/wheels ] || [ pyproject.toml -nt build/wheels ] || [ constraints.txt -nt build/wheels ]; then wheels; fi
printf '%s=%s\n' POSTGRES_IMAGE pointsman-local/postgres PYTHON_IMAGE pointsman-local/python \
    BUILD_IMAGE pointsman-local/python-build | tee build/compose.env
