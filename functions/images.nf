/*
 * What is known of a data set's images before PREPARE has seen them: how many cases dataset.json lists, and the images'
 * sizes, by the heads of NIfTI files.
 */

// Number of cases in a raw folder: what dataset.json lists, or the files in labelsTr; null where that is not known.
def folder_cases(folder) {
    def head = dataset_head(folder)
    head == null ? null : listed_labels(head).size() ?: files("${folder}/labelsTr/[!.]*").size()
}

// dataset.json as a map; null where there is none, or no JSON in it.
def dataset_head(folder) {
    try {
        def head = new groovy.json.JsonSlurper().parseText(file("${folder}/dataset.json").text)
        return head instanceof Map ? head : null
    }
    catch( Exception _error ) {
        return null
    }
}

// The label files that dataset.json names itself (the Decathlon's `training`, nnU-Net's `dataset`), null for a missing one.
def listed_labels(head) {
    def listed = [head.training, head.dataset].find { cases -> cases instanceof Map || cases instanceof List } ?: []
    (listed instanceof Map ? listed.values() : listed).collect { entry -> entry instanceof Map ? entry.label : null }
}

def channel_count(head) {
    entries(head.channel_names ?: head.modality, 1)
}

// How many entries a map or list has; `least` for what is neither, which is PREPARE's to tell.
def entries(found, least) {
    found instanceof Map || found instanceof List ? Math.max(found.size(), least) : least
}

// [channels, cases]: for each image of a raw folder the voxels of one channel of its file, and those that it is resampled
// to, or 0. Of what is no NIfTI file, or on no file system, no more is known than its size: about a byte per voxel, as it
// is compressed.
def raw_voxels(raw) {
    def folder = raw.toRealPath()
    def images = folder.resolve('imagesTr').exists() ? folder.resolve('imagesTr').listFiles().findAll { path -> !path.name.startsWith('.') } : []
    def here = folder.fileSystem == java.nio.file.FileSystems.getDefault()
    def heads = images.collect { path -> here ? nifti_head(path) : null }
    def known = heads.findAll { head -> head != null }
    def spacing = known ? planned_spacing(known) : null
    [
        channels: channel_count(dataset_head(folder.toUriString()) ?: [:]),
        cases: [images, heads].transpose().collect { path, head ->
            head == null ? [path.size(), 0] : [volume(head.shape), is_resampled(head, spacing) ? volume(resampled_shape(head, spacing)) : 0]
        },
    ]
}

def is_resampled(head, spacing) {
    (0..2).any { axis -> Math.abs(head.spacing_mm[axis] / spacing[axis] - 1) > 0.01 }
}

// [shape, spacing_mm] (z, y, x) by the first 348 bytes of a NIfTI-1 file, packed or not; null where it is none.
def nifti_head(path) {
    try {
        return path.withInputStream { packed ->
            def stream = path.name.endsWith('.gz') ? new java.util.zip.GZIPInputStream(packed) : packed
            nifti_fields(java.nio.ByteBuffer.wrap(stream.readNBytes(348)))
        }
    }
    catch( Exception _error ) {
        return null
    }
}

// The head's length stands first, and says in which order its bytes are.
def nifti_fields(head) {
    head.order(java.nio.ByteOrder.LITTLE_ENDIAN)
    if( head.getInt(0) != 348 )
        head.order(java.nio.ByteOrder.BIG_ENDIAN)
    def shape = [3, 2, 1].collect { axis -> Math.max(1, head.getShort(40 + 2 * axis) as int) }
    def spacing = [3, 2, 1].collect { axis -> Math.abs(head.getFloat(76 + 4 * axis) as double) ?: 1d }
    head.getInt(0) == 348 ? [shape: shape, spacing_mm: spacing] : null
}

// The spacing that nnU-Net resamples images to: their median, and a finer one along an axis of thick slices.
def planned_spacing(heads) {
    def median = median_per_axis(heads*.spacing_mm)
    def worst = median.indexOf(median.max())
    def others = [0, 1, 2] - worst
    def shape = median_per_axis(heads.collect { head -> resampled_shape(head, median) })
    def thick = median[worst] > 3 * others.collect { axis -> median[axis] }.max()
    if( !thick || shape[worst] * 3 >= others.collect { axis -> shape[axis] }.min() )
        return median
    def finer = quantile(heads.collect { head -> head.spacing_mm[worst] }, 0.1)
    median.withIndex().collect { value, axis -> axis == worst ? Math.max(finer, others.collect { other -> median[other] }.max()) : value }
}

def resampled_shape(head, spacing) {
    (0..2).collect { axis -> Math.max(1, Math.round(head.shape[axis] * head.spacing_mm[axis] / spacing[axis] as double)) }
}

def median_per_axis(triples) {
    (0..2).collect { axis -> quantile(triples.collect { triple -> triple[axis] }, 0.5) }
}

def quantile(values, share) {
    def sorted = values.sort(false)
    def place = share * (values.size() - 1)
    def below = Math.floor(place as double) as int
    sorted[below] + (place - below) * (sorted[Math.min(below + 1, values.size() - 1)] - sorted[below]) as double
}

def volume(shape) {
    shape.inject(1d) { product, length -> product * length }
}
