/*
 * Memory that tasks ask for, by what their data need. What a process asks for itself, here, gives way to a site's
 * `withLabel` and `withName`.
 *
 * Each function has a least number of GB and an estimate of bytes; the larger one is asked for, times the attempt. The
 * factors were measured on images of 12 million voxels (docs/cluster.md) and hold a margin. V stands for the voxels of the
 * largest image, C for the number of classes.
 */

// PREPARE holds one case per worker: each channel as read, cropped and normalised (22 V); where it is resampled, once more
// in float64 and its result (30 V of the planned grid). A process begins with less than a GB. `raw` is of images.nf.
def prepare_memory(task, raw, workers) {
    def largest = raw.cases.collect { voxels, resampled -> 22 * voxels + 30 * resampled }.max() ?: 0
    memory_of(task, 8, gb(1) * (1 + workers) + workers * raw.channels * (largest as long))
}

// TRAIN holds the masks of all labelled cases, and lists the places of the labelled voxels of one image after the other (80
// bytes each, the image being labelled wholly). Six GB are for the network, CUDA, and the processes that make batches.
def train_memory(task, prepared) {
    def data = prepared_sizes(prepared)
    memory_of(task, 8, gb(6) + data.pool_voxels + 80 * data.largest)
}

// PREDICT streams the folds: one fold and the folds' sum (2 C volumes of float32), entropies and weights (3 volumes, and 5
// to spare), the image twice. Only `fold_probability` keeps all folds, in float16.
def predict_memory(task, prepared, maps, folds) {
    def data = prepared_sizes(prepared)
    def kept = 'fold_probability' in maps.tokenize(',') ? 2 * folds * data.classes : 0
    memory_of(task, 8, gb(1.25) + (volumes(data) + kept) * data.largest)
}

// EVALUATE predicts as PREDICT does, resamples the folds' mean logits in float64 (12 C of the planned grid, 4 C and 24 of the
// file's), and then either computes calibration (8 C and 60) or distances between surfaces in the box of what was predicted
// (220 V where that is the whole image), on the grid of the test cases, of which it holds all masks.
def evaluate_memory(task, prepared) {
    def data = prepared_sizes(prepared)
    def resampling = 12 * data.classes * data.largest + (4 * data.classes + 40) * data.largest_test
    def measures = [8 * data.classes + 80, 240].max() * data.largest_test
    memory_of(task, 8, gb(1.25) + data.test_voxels + [volumes(data) * data.largest, resampling, measures].max())
}

// QUERY holds one image per worker: its maps, sums and scores (24 V) and for strategies by class the scores of each class,
// up to 512 MB of them; beside that an image for the report's pictures.
def query_memory(task, prepared, workers) {
    def data = prepared_sizes(prepared)
    def scores = [8 * data.classes * data.largest, 512L * 1024 * 1024].min()
    memory_of(task, 8, gb(0.25) + workers * (24 * data.largest + scores) + (8 + 4 * data.channels) * data.largest)
}

// ANNOTATE holds the masks of all labelled cases, and one case's true mask.
def annotate_memory(task, prepared) {
    def data = prepared_sizes(prepared)
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
    task.executor == 'local' ? [memory, nextflow.util.SysHelper.getAvailMemory()].min() : memory
}

// What PREPARE tells of a data set: voxels of the largest image on the image grid, of the largest test case on its own
// grid, of all images of the pool and all test cases; numbers of channels and classes. Zeros where it is empty (-stub-run).
def prepared_sizes(prepared) {
    def folder = prepared.toRealPath()
    def text = folder.resolve('dataset.json').text
    def head = text ? new groovy.json.JsonSlurper().parseText(text) : [channels: [], class_names: []]
    def rows = case_rows(folder.resolve('cases.csv'))
    def test = rows.findAll { row -> row.split == 'test' }
    [
        largest: rows.collect { row -> voxels(row, '') }.max() ?: 0L,
        largest_test: test.collect { row -> voxels(row, 'original_') }.max() ?: 0L,
        pool_voxels: (rows - test).sum { row -> voxels(row, '') } ?: 0L,
        test_voxels: test.sum { row -> voxels(row, 'original_') } ?: 0L,
        channels: head.channels.size(),
        classes: head.class_names.size(),
    ]
}

// Rows of cases.csv as maps. Cells are counted from the right: on the left, names of cases and patients may hold commas.
def case_rows(path) {
    def lines = path.readLines().collect { line -> line.split(',').toList().reverse() }
    lines.drop(1).collect { cells -> [lines[0], cells].transpose().collectEntries() }
}

// Voxels of a case on the image grid, or on the file's own ('original_').
def voxels(row, grid) {
    ['z', 'y', 'x'].inject(1L) { product, axis -> product * (row[grid + axis] as int) }
}
