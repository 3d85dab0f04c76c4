#!/bin/sh
# Installs groundskeeper from the folder in which this file lies.
#   ./install.sh                 into ~/.local
#   ./install.sh --prefix DIR    into DIR
#   ./install.sh --uninstall     takes it away again; environments and settings stay
set -eu

prefix=${HOME:+$HOME/.local}
uninstall=
while [ $# -gt 0 ]; do
  case $1 in
    --prefix) prefix=${2:?--prefix needs a directory}; shift ;;
    --uninstall) uninstall=yes ;;
    *) echo "usage: $0 [--prefix DIR] [--uninstall]" >&2; exit 64 ;;
  esac
  shift
done
[ -n "$prefix" ] || { echo "error: set HOME or use --prefix" >&2; exit 64; }
case $prefix in /*) ;; *) prefix=$PWD/$prefix ;; esac
CDPATH='' cd -- "$(dirname -- "$0")"
files=$(find bin share -type f)

if [ -n "$uninstall" ]; then
  if [ ! -e "$prefix/bin/groundskeeper" ]; then
    echo "error: nothing is installed in $prefix" >&2
    exit 3
  fi
  # Not installed is fine; a service without its program is not.
  "$prefix/bin/groundskeeper" service uninstall --yes >/dev/null 2>&1 || true
  "$prefix/bin/groundskeeper" stop || true
  for file in $files; do rm -f "$prefix/$file"; done
  echo "removed from $prefix; your environments are untouched"
  exit 0
fi

# A program that cannot run here is not installed.
bin/groundskeeper --version >/dev/null || {
  echo "error: this build does not run on this system ($(uname -sm))" >&2
  exit 1
}
for file in $files; do
  mkdir -p "$prefix/$(dirname "$file")"
  # Under another name first: a program that runs cannot be written to.
  cp "$file" "$prefix/$file.new"
  mv -f "$prefix/$file.new" "$prefix/$file"
done
echo "installed $(bin/groundskeeper --version) into $prefix"
command -v git >/dev/null || echo "note: git is missing; groundskeeper needs it"
case :$PATH: in
  *:"$prefix/bin":*) ;;
  *) echo "note: $prefix/bin is not on your PATH; add: export PATH=\"$prefix/bin:\$PATH\"" ;;
esac
case $prefix in
  *[!A-Za-z0-9/._-]*) program="'$prefix/bin/groundskeeper'" ;;
  *) program=$prefix/bin/groundskeeper ;;
esac
echo "next: in a git repository, $program new"
