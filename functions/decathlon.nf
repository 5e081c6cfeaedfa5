/*
 * Data sets of the Medical Segmentation Decathlon by name, `--input msd:Task04_Hippocampus`: DOWNLOAD puts them into
 * --download_dir once, and from then on they are folders like any other.
 * bin/nnactive_nf/download/tasks.json lists them for Python too.
 */

def is_decathlon(values) {
    "${values.input}".startsWith('msd:')
}

// The task's name with its number in front, which the user may leave out; null where there is no such task.
def decathlon_task(values) {
    def name = "${values.input}" - 'msd:'
    decathlon_tasks().find { task -> name in [task, without_number(task)] }
}

def decathlon_tasks() {
    new groovy.json.JsonSlurper().parseText(file("${projectDir}/bin/nnactive_nf/download/tasks.json").text).tasks*.name
}

def without_number(task) {
    task.replaceFirst(/^Task\d+_/, '')
}

// Where a data set's files are, or will be once they are downloaded.
def raw_folder(values) {
    def task = is_decathlon(values) ? decathlon_task(values) : null
    task ? download_folder(values).resolve(task) : values.input
}

def download_folder(values) {
    file(values.download_dir ?: 'downloads').toAbsolutePath()
}

// Whether the data set is still to be downloaded.
def is_awaited(values) {
    is_decathlon(values) && !file("${raw_folder(values)}/dataset.json").exists()
}
