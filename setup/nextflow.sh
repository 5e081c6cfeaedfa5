#!/usr/bin/env bash
# Makes .tools/bin/nextflow: the `nextflow` on PATH where there is one, else Nextflow's jars from Maven Central
# started with the JVM options that its own launcher uses. Does nothing when the launcher is there and current.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
lib="$root/.tools/nextflow/lib"
launcher="$root/.tools/bin/nextflow"
stamp="$root/.tools/nextflow/stamp"
want=$(cat "$root/setup/nextflow/pom.xml" "$root/setup/nextflow.sh" | cksum)

[ -x "$launcher" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && exit 0

need() { echo "setup: $1" >&2; exit 1; }
command -v java >/dev/null || need "Java is missing. Install a JDK 17 or newer (Debian: apt-get install openjdk-17-jre-headless)."
major=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
[ "${major:-0}" -ge 17 ] || need "Java ${major:-unknown} is too old. Install a JDK 17 or newer (Debian: apt-get install openjdk-17-jre-headless)."

mkdir -p "$root/.tools/bin" "$root/.tools/nextflow"
if [ "${NNACTIVE_NEXTFLOW:-}" != "maven" ] && command -v nextflow >/dev/null; then
    ln -sf "$(command -v nextflow)" "$launcher"
else
    command -v mvn >/dev/null || need "neither Nextflow nor Maven is on PATH. Install one of them (Debian: apt-get install maven; or see nextflow.io)."
    rm -rf "$lib.new"
    mvn -q -B -f "$root/setup/nextflow/pom.xml" dependency:copy-dependencies \
        -DoutputDirectory="$lib.new" -DincludeScope=runtime >&2
    rm -rf "$lib" && mv "$lib.new" "$lib"
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
exec java -XX:+TieredCompilation -XX:TieredStopAtLevel=1 ${NXF_OPTS:-} ${NXF_JVM_ARGS:-} "${opens[@]}" \
    -cp "$here/nextflow/lib/*" nextflow.cli.Launcher "$@"
EOF
    chmod +x "$launcher"
fi
printf '%s' "$want" > "$stamp"
