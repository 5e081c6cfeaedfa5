/*
 * Memory that tasks ask for, by what their data need. What a process asks for itself, here, gives way to a site's
 * `withLabel` and `withName`.
 *
 * Each function has a least number of GB and an estimate of bytes; the larger one is asked for, times the attempt. The
 * factors were measured on images of 12 million voxels (docs/cluster.md) and hold a margin. V stands for the voxels of the
 * largest image, C for the number of classes. `data` is what CHECK has told of the data set (`sizes_of`).
 */

// PREPARE holds one case per worker: each channel as read, cropped and normalised (22 V); where it is resampled, once more
// in float64 and its result (30 V of the planned grid). A process begins with less than a GB.
def prepare_memory(task, data, workers) {
    memory_of(task, 8, gb(1) * (1 + workers) + workers * data.channels * (22 * data.largest_file + 30 * data.largest_resampled))
}

// TRAIN holds the masks of all labelled cases, and lists the places of the labelled voxels of one image after the other (80
// bytes each, the image being labelled wholly). Six GB are for the network, CUDA, and the processes that make batches.
def train_memory(task, data) {
    memory_of(task, 8, gb(6) + data.pool_voxels + 80 * data.largest)
}

// PREDICT streams the folds: one fold and the folds' sum (2 C volumes of float32), entropies and weights (3 volumes, and 5
// to spare), the image twice. Only `fold_probability` keeps all folds, in float16.
def predict_memory(task, data, maps, folds) {
    def kept = 'fold_probability' in maps.tokenize(',') ? 2 * folds * data.classes : 0
    memory_of(task, 8, gb(1.25) + (volumes(data) + kept) * data.largest)
}

// EVALUATE predicts as PREDICT does, resamples the folds' mean logits in float64 (12 C of the planned grid, 4 C and 24 of the
// file's), and then either computes calibration (8 C and 60) or distances between surfaces in the box of what was predicted
// (220 V where that is the whole image), on the grid of the test cases, of which it holds all masks.
def evaluate_memory(task, data) {
    def resampling = 12 * data.classes * data.largest + (4 * data.classes + 40) * data.largest_file
    def measures = [8 * data.classes + 80, 240].max() * data.largest_file
    memory_of(task, 8, gb(1.25) + data.test_voxels + [volumes(data) * data.largest, resampling, measures].max())
}

// QUERY holds one image per worker: its maps, sums and scores (24 V) and for strategies by class the scores of each class,
// up to 512 MB of them; beside that an image for the report's pictures.
def query_memory(task, data, workers) {
    def scores = [8 * data.classes * data.largest, 512L * 1024 * 1024].min()
    memory_of(task, 8, gb(0.25) + workers * (24 * data.largest + scores) + (8 + 4 * data.channels) * data.largest)
}

// EXPORT holds one map of a case, and the same on the file's grid, while it is compressed; or the folds' networks.
def export_memory(task, data) {
    memory_of(task, 4, gb(1) + 16 * data.largest + 32 * data.largest_file)
}

// ANNOTATE holds the masks of all labelled cases, and one case's true mask.
def annotate_memory(task, data) {
    memory_of(task, 4, gb(0.5) + data.pool_voxels + 8 * data.largest)
}

def gb(number) {
    (number * 1024L * 1024 * 1024) as long
}

// Bytes per voxel of one fold's prediction beside the sum of those before.
def volumes(data) {
    4 * (2 * data.classes + 8 + 2 * data.channels)
}

// Whole GB, more at each attempt. On this machine a task that asks for more than there is would end the run, so there it
// asks for all of it.
def memory_of(task, least, bytes) {
    def whole = Math.max(least, (bytes + gb(1) - 1).intdiv(gb(1))) * task.attempt
    def memory = 1.GB * whole
    task.executor == 'local' ? [memory, 1.B * memory_here()].min() : memory
}

// Bytes of memory that this machine, or the container that it is, has.
def memory_here() {
    java.lang.management.ManagementFactory.operatingSystemMXBean.totalMemorySize as long
}

// CHECK's file of sizes as whole numbers, which bin/nnactive_nf/check/sizes.py describes; zeros where it is empty (-stub-run).
def sizes_of(path) {
    def told = path.size() ? new groovy.json.JsonSlurper().parse(path) : [:]
    ['cases', 'channels', 'classes', 'largest', 'largest_file', 'largest_resampled', 'pool_voxels', 'test_voxels'].collectEntries { name ->
        [name, (told[name] ?: 0) as long]
    }
}
