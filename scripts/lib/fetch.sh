# shellcheck shell=sh
# What the fetch-* scripts share. POSIX sh, to be sourced; the sourcing script sets `program`.
#
# Contract of every fetch script: the last line of stdout is the absolute path of the file,
# everything else goes to stderr; a file that is already there and has the expected checksum is
# not fetched again; a file appears under its name only once it is whole and verified.

say() {
    printf '%s: %s\n' "${program:-fetch}" "$*" >&2
}

# die MESSAGE [HINT]
die() {
    printf 'error: %s\n' "$1" >&2
    if [ $# -gt 1 ]; then
        printf '\nhint: %s\n' "$2" >&2
    fi
    exit 1
}

# The cache folder of the tool, absolute: the same rules as the tool's own.
cache_root() {
    if [ -n "${EDGEWISE_HOME:-}" ]; then
        root=$EDGEWISE_HOME/cache
    elif [ -n "${XDG_CACHE_HOME:-}" ]; then
        root=$XDG_CACHE_HOME/edgewise
    else
        [ -n "${HOME:-}" ] || die "neither EDGEWISE_HOME, XDG_CACHE_HOME nor HOME is set"
        root=$HOME/.cache/edgewise
    fi
    mkdir -p "$root" || die "cannot create $root"
    (cd "$root" && pwd)
}

# A new folder in the cache, so that the finished file is renamed within one file system.
# Sets `work`; it is removed when the script ends, however it ends.
make_work_folder() {
    work=$(mktemp -d "$1/.fetch-XXXXXX") || die "cannot create a folder in $1"
    trap 'rm -rf "$work"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

sha256_of() {
    if command -v sha256sum >/dev/null 2>&1; then
        sha256sum "$1" | cut -d ' ' -f 1
    elif command -v shasum >/dev/null 2>&1; then
        shasum -a 256 "$1" | cut -d ' ' -f 1
    else
        die "neither sha256sum nor shasum is installed"
    fi
}

# is_verified FILE SHA256: whether the file is there and is the expected one.
is_verified() {
    [ -f "$1" ] && [ "$(sha256_of "$1")" = "$2" ]
}

# verify FILE SHA256
verify() {
    actual=$(sha256_of "$1")
    [ "$actual" = "$2" ] || die "$1: SHA-256 is $actual, expected $2" "the package has changed or the download is damaged; nothing was installed"
}

# pip_download REQUIREMENT FOLDER [PIP OPTION]...: puts one wheel into the folder.
pip_download() {
    requirement=$1
    folder=$2
    shift 2
    command -v python3 >/dev/null 2>&1 || die "python3 is not installed" "it is only needed to download: install it, or copy the file into the cache by hand"
    python3 -m pip --version >/dev/null 2>&1 || die "python3 has no pip" "install it: apt-get install python3-pip, or python3 -m ensurepip"
    say "downloading $requirement"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
        --dest "$folder" "$@" "$requirement" >&2 ||
        die "pip could not download $requirement" "is there a network, and does the package index have it for this platform?"
}

# unzip_member FOLDER MEMBER TARGET: extracts one file of the only wheel in the folder.
unzip_member() {
    python3 - "$@" >&2 <<'PYTHON' || die "cannot unpack $2"
import pathlib, shutil, sys, zipfile

folder, member, target = sys.argv[1:]
wheels = list(pathlib.Path(folder).glob("*.whl"))
if len(wheels) != 1:
    sys.exit(f"{folder} holds {len(wheels)} wheels, expected one")
try:
    with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(member) as source, open(target, "wb") as out:
        shutil.copyfileobj(source, out, 1 << 20)
except (KeyError, OSError, zipfile.BadZipFile) as error:
    sys.exit(f"{wheels[0].name}: {error}")
PYTHON
}

# install_file SOURCE TARGET: renames within the cache and prints the path, the script's result.
install_file() {
    mkdir -p "$(dirname "$2")" || die "cannot create $(dirname "$2")"
    chmod 644 "$1" && mv -f "$1" "$2" || die "cannot write $2"
    printf '%s\n' "$2"
}
