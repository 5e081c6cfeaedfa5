package io.seqera.util.trace

import groovy.transform.CompileStatic
import java.security.SecureRandom

/**
 * What Nextflow's HTTP client asks for with each request, such as those of `-with-tower`. Nextflow takes the class from
 * a library that Maven Central does not serve (io.seqera:lib-trace), so setup/nextflow.sh compiles this one in its place.
 */
@CompileStatic
class TraceUtils {

    private static final SecureRandom RANDOM = new SecureRandom()

    /** A `traceparent` as in https://www.w3.org/TR/trace-context: version, trace, parent, flags (sampled). */
    static String rndTrace() {
        return "00-${hex(16)}-${hex(8)}-01"
    }

    private static String hex(int size) {
        final bytes = new byte[size]
        RANDOM.nextBytes(bytes)
        return HexFormat.of().formatHex(bytes)
    }
}
