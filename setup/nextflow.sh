#!/usr/bin/env bash
# Makes .tools/bin/nextflow: the `nextflow` on PATH where it is as new as nextflow.config asks for, else Nextflow's jars
# from Maven Central started with the JVM options that its own launcher uses. Does nothing when the launcher is there and
# current.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
lib="$root/.tools/nextflow/lib"
archive="$root/.tools/nextflow/classes.jsa"
launcher="$root/.tools/bin/nextflow"
stamp="$root/.tools/nextflow/stamp"
minimum=$(sed -n "s/^ *nextflowVersion = '!>=\([^']*\)'.*/\1/p" "$root/nextflow.config")
want=$({ cat "$root"/setup/nextflow/* "$root/setup/nextflow.sh"; echo "$minimum"; } | cksum)

[ -x "$launcher" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && exit 0

need() { echo "setup: $1" >&2; exit 1; }
command -v java >/dev/null || need "Java is missing. Install a JDK 17 or newer (Debian: apt-get install openjdk-17-jre-headless)."
major=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
[ "${major:-0}" -ge 17 ] || need "Java ${major:-unknown} is too old. Install a JDK 17 or newer (Debian: apt-get install openjdk-17-jre-headless)."

version_of() { # prints the version of a Nextflow, nothing where it does not start
    NXF_DISABLE_CHECK_LATEST=true "$1" -version 2>/dev/null </dev/null |
        sed -n 's/^ *version \([0-9][^ ]*\).*/\1/p' | head -n 1 || true
}

# What this script has made is none that was found: setup/cluster.sh env puts it on PATH.
others=$(tr : '\n' <<< "$PATH" | grep -vxF "$root/.tools/bin" | paste -sd : -)
found=""
if [ "${NNACTIVE_NEXTFLOW:-}" != maven ] && found=$(PATH=$others type -P nextflow); then
    version=$(version_of "$found")
    if [ -z "$version" ] || ! printf '%s\n' "$minimum" "$version" | sort -V -C; then
        echo "setup: $found is version ${version:-unknown}, this workflow needs $minimum or newer (nextflow self-update);" \
            "taking Maven's instead" >&2
        found=""
    fi
fi

mkdir -p "$root/.tools/bin" "$root/.tools/nextflow"
if [ -n "$found" ]; then
    ln -sf "$found" "$launcher"
else
    command -v mvn >/dev/null ||
        need "neither Nextflow $minimum or newer nor Maven is on PATH. Install one of them (Debian: apt-get install maven; or see nextflow.io)."
    rm -rf "$lib.new"
    mvn -q -B -f "$root/setup/nextflow/pom.xml" dependency:copy-dependencies \
        -DoutputDirectory="$lib.new" -DincludeScope=runtime >&2
    rm -rf "$lib" && mv "$lib.new" "$lib"
    # A class that Maven Central lacks, by the Groovy that comes along: a JRE is enough.
    java -cp "$lib/*" org.codehaus.groovy.tools.FileSystemCompiler -d "$lib/trace" "$root/setup/nextflow/TraceUtils.groovy" >&2
    java -cp "$lib/*" groovy.ui.GroovyMain "$root/setup/nextflow/Pack.groovy" "$lib/trace" "$lib/trace.jar" >&2
    rm -rf "$lib/trace"
    rm -f "$launcher"
    cat > "$launcher" <<'EOF'
#!/usr/bin/env bash
here=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)
opens=()
for package in java.lang java.io java.nio java.net java.util java.util.concurrent.locks java.util.concurrent.atomic \
    java.util.regex sun.nio.ch sun.nio.fs sun.net.www.protocol.http sun.net.www.protocol.https \
    sun.net.www.protocol.ftp sun.net.www.protocol.file jdk.internal.misc jdk.internal.vm; do
    opens+=(--add-opens "java.base/$package=ALL-UNNAMED")
done
# Nextflow takes jars that are not its own package for a developer's, who has the plugins' sources beside them.
export NXF_PLUGINS_MODE=${NXF_PLUGINS_MODE:-prod}
# Else Nextflow makes a folder for them wherever it is started.
export NXF_PLUGINS_DIR=${NXF_PLUGINS_DIR:-$here/nextflow/plugins}
# Else the parser forgets after 64 files what it has learnt of Groovy.
parser=-Dgroovy.antlr4.cache.threshold=1000
ready=()
[ ! -e "$here/nextflow/classes.jsa" ] || ready=("-XX:SharedArchiveFile=$here/nextflow/classes.jsa" -Xlog:cds=off,cds+dynamic=off)
exec java -XX:+TieredCompilation -XX:TieredStopAtLevel=1 -XX:+UseSerialGC "$parser" "${ready[@]}" ${NXF_OPTS:-} ${NXF_JVM_ARGS:-} "${opens[@]}" \
    -cp "$here/nextflow/lib/*" nextflow.cli.Launcher "$@"
EOF
    chmod +x "$launcher"
    # The JVM keeps the classes of one start, ready made, for all later ones: a quarter of their time. It does without
    # where there is none, or another JVM's.
    rm -f "$archive"
    NXF_DISABLE_CHECK_LATEST=true NXF_OPTS="-XX:ArchiveClassesAtExit=$archive" \
        "$launcher" -log /dev/null -q run "$root/main.nf" --help >/dev/null 2>&1 </dev/null || true
fi
printf '%s' "$want" > "$stamp"
