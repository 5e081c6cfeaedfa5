/*
 * Where a data set comes from: the built-in phantom, a folder of the user's, or the Medical Segmentation Decathlon by a
 * task's name, `--input msd:Task04_Hippocampus`: DOWNLOAD puts it into --download_dir once, and from then on it is a folder
 * like any other. bin/nnactive_nf/download/tasks.json lists the tasks for Python too.
 */

def is_phantom(values) {
    values.input ==~ /phantom(:\w+)?/
}

// The kind of phantom stands behind a colon: phantom:two_channels.
def phantom_settings(row) {
    [seed: row.phantom_seed, cases: row.phantom_cases, variant: row.input.tokenize(':')[1]]
}

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

// [task, download folder, the same to be mounted]
def download_inputs(row) {
    [raw_folder(row).name, download_folder(row).toString(), download_folder(row)]
}
