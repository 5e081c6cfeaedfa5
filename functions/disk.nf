/*
 * How much room a plan takes. What nnU-Net will plan follows from the images' sizes by its own rules; how well files pack
 * was measured on Hippocampus and the phantom (docs/planning.md).
 */
include { is_awaited ; raw_folder } from './decathlon.nf'
include { folder_images ; median_per_axis ; planned_spacing ; resampled_shape ; volume } from './images.nf'
include { is_phantom ; labelled_patches ; maps_of ; strategy_of } from './plan.nf'

// Bytes of a voxel in PREPARE's images per channel: as they were, or resampled, whose values are no whole numbers.
def image_bytes(resampled) {
    resampled ? 3.6 : 2.0
}

// Bytes of a voxel in masks and label masks.
def mask_bytes() {
    0.02
}

// Bytes of a voxel of the pool in a map of PREDICT's. Probabilities are in half precision, the rest in single.
def map_bytes(name, classes, folds, network) {
    def bytes = [
        predictive_entropy: 3.4,
        expected_entropy: 3.4,
        prediction: 0.2,
        mean_probability: 1.5 * classes,
        fold_probability: 1.5 * classes * folds,
        fold_features: 4.2 * folds * network.feature_width / network.feature_cell,
    ]
    bytes[name]
}

// Bytes of a data set in an HDF5 file beside its values; of a task's scripts, logs and folders; of Nextflow's reports, and
// for each task in them; of the report, and for each trajectory in it.
def overheads() {
    [hdf5: 5e3, task: 45e3, protocol: 3e6, protocol_of_task: 2.5e3, report: 5.5e6, trajectory: 0.35e6]
}

// Images that are looked at to know them all.
def looked_at() {
    200
}

// What is known of a row's images: [cases, channels, classes, shape and spacing_mm (z, y, x) as planned, voxels of all
// cases, resampled], or [unknown: why not].
def images_of(row) {
    if( is_awaited(row) )
        return [unknown: "${row.input} is still to be downloaded"]
    def raw = is_phantom(row) ? phantom_images(row) : folder_images(raw_folder(row), looked_at())
    raw.unknown ? raw : raw + planned_grid(raw.heads, raw.cases, row.configuration)
}

// The phantom's cases differ a little from this one.
def phantom_images(row) {
    def two = row.input.endsWith(':two_channels')
    [cases: row.phantom_cases, channels: two ? 2 : 1, classes: two ? 3 : 4, heads: [2.5, 2.6].collect { thick -> [shape: [25, 42, 38], spacing_mm: [thick, 0.95, 0.95]] }]
}

// The grid that nnU-Net resamples images to: their median spacing, and a finer one along an axis of thick slices.
def planned_grid(heads, cases, configuration) {
    def spacing = planned_spacing(heads)
    def shapes = heads.collect { head -> resampled_shape(head, spacing) }
    def voxels = shapes.sum { shape -> volume(shape) } / shapes.size()
    def most = configuration == '3d_lowres' ? 4 * volume([128, 128, 128]) : voxels
    [
        shape: median_per_axis(shapes),
        spacing_mm: spacing,
        voxels: cases * Math.min(voxels as double, most as double),
        resampled: heads.any { head -> head.spacing_mm != spacing } || most < voxels,
    ]
}

// [parameters, feature_width, feature_cell]: the network that nnU-Net will plan, by its rules for the depth; and features
// of the last but one stage with their distance in voxels. Without images it is the usual one of six stages.
def network_of(row, images) {
    def flat = row.configuration == '2d'
    def spacing = images.unknown ? [1, 1, 1] : images.spacing_mm
    def planned = images.unknown ? [128, 128, 128] : planned_patch(images.shape, spacing, flat)
    def patch = row.train_patch_size ? row.train_patch_size.tokenize(',')*.toInteger() : planned
    def strides = pooling_steps(flat ? spacing.drop(1) : spacing, flat ? patch.drop(1) : patch)
    def widths = (0..strides.size()).collect { stage -> Math.min(flat ? 512 : 320, (row.features ?: 32) * 2.power(stage)) }
    def before = strides.dropRight(1)
    [
        parameters: parameter_count(widths, strides, images.channels ?: 1, images.classes ?: 2, flat ? 9 : 27),
        feature_width: widths[before.size()],
        feature_cell: before.inject(1d) { product, stride -> product * volume(stride) },
    ]
}

// From a patch of 256 x 256 x 256 voxels of equal length in mm, cut at the images, nnU-Net shortens what is longest by the
// images, by 32 voxels at a time, until a training fits into memory: at about 128 x 128 x 128. In 2D that hardly happens.
def planned_patch(shape, spacing_mm, flat) {
    def unit = Math.cbrt(volume(spacing_mm))
    def longest = flat ? shape : (0..2).collect { axis -> Math.min(shape[axis] as double, 256 * unit / spacing_mm[axis]) }
    def most = flat ? volume(shape) : volume([128, 128, 128])
    def share = (1..20).inject(0d) { fits, digit ->
        def more = fits + 1 / 2.power(digit)
        volume(shortened(longest, shape, more)) <= most ? more : fits
    }
    [longest, shortened(longest, shape, share)].transpose().collect { before, after ->
        after >= 64 && after < 0.99 * before ? 32 * Math.floor(after / 32 as double) : Math.round(after as double)
    }
}

def shortened(patch, shape, share) {
    (0..2).collect { axis -> Math.min(patch[axis] as double, share * shape[axis]) }
}

// nnU-Net halves axes of at least 8 voxels whose spacing is less than twice the finest; a last one alone from 12 on.
def pooling_steps(spacing, size) {
    def long_ones = (0..<size.size()).findAll { axis -> size[axis] >= 8 }
    def finest = long_ones.collect { axis -> spacing[axis] }.min()
    def halved = long_ones.findAll { axis -> spacing[axis] < 2 * finest }
    if( halved.isEmpty() || (halved.size() == 1 && size[halved[0]] < 12) )
        return []
    def step = (0..<size.size()).collect { axis -> axis in halved ? 2 : 1 }
    [step] + pooling_steps([spacing, step].transpose().collect { a, b -> a * b }, [size, step].transpose().collect { a, b -> Math.ceil(a / b as double) })
}

// Parameters of nnU-Net's plain U-Net: two convolutions per stage on both sides.
def parameter_count(widths, strides, channels, classes, kernel) {
    def encoder = [[channels] + widths.dropRight(1), widths].transpose().sum { a, b -> convolution(kernel, a, b) + convolution(kernel, b, b) }
    def decoder = (0..<strides.size()).collect { stage ->
        def width = widths[stage]
        def upwards = volume(strides[stage]) * widths[stage + 1] * width + width
        upwards + convolution(kernel, 2 * width, width) + convolution(kernel, width, width) + (width + 1) * classes
    }
    encoder + (decoder.sum() ?: 0)
}

// With its bias and norm.
def convolution(kernel, features_in, features_out) {
    kernel * features_in * features_out + 3 * features_out
}

// What a plan writes, in bytes: [part, work, results, store] each, and [maps of the node that has the largest ones].
// `groups` as of `node_groups`, `tasks` is their number. Of data sets without images only the networks are known.
def disk_of(groups, tasks, values) {
    def images = groups*.row.groupBy { row -> row.dataset }.collectEntries { dataset, rows -> [dataset, images_of(rows[0])] }
    def networks = groups.collectEntries { group -> [row_key(group.row), network_of(group.row, images[group.row.dataset])] }
    def maps = groups.collectMany { group -> maps_by_node(group, images[group.row.dataset], networks[row_key(group.row)]) }
    def weights = groups.sum { group -> group.nodes.size() * group.row.folds * 4 * networks[row_key(group.row)].parameters }
    def curves = groups.sum { group -> group.nodes.size() * curves_bytes(group.row) }
    def others = groups.sum { group -> group.nodes.sum { node -> node_bytes(group, node, images[node.dataset]) } } + curves + report_bytes(groups*.row)
    def prepared = images.values().findAll { seen -> !seen.unknown }.sum { seen -> prepared_bytes(seen) } ?: 0
    def copied = values.publish_mode in ['copy', 'copyNoFollow']
    [
        images: images,
        networks: networks,
        largest_maps: maps.max() ?: 0,
        parts: [
            [part: 'prepared images and masks', work: prepared],
            [part: 'uncertainty maps', work: maps.sum() ?: 0, results: copied && values.publish_uncertainty ? maps.sum() ?: 0 : 0],
            [part: 'networks', store: weights + curves, results: copied && values.publish_models ? weights : 0],
            [part: 'labels, pictures, measures, report', work: others + curves, results: copied ? others : 0],
            [part: 'scripts and logs of tasks', work: tasks * overheads().task, results: overheads().protocol + tasks * overheads().protocol_of_task],
        ],
    ]
}

// Rows of one data set may be trained in different ways.
def row_key(row) {
    [row.dataset, row.regime]
}

def pool_share(row) {
    1 - (row.test_fraction as double)
}

// Images; masks of classes and of free voxels.
def prepared_bytes(images) {
    images.voxels * (images.channels * image_bytes(images.resampled) + 2 * mask_bytes()) + images.cases * 2 * overheads().hdf5
}

def maps_by_node(group, images, network) {
    def row = group.row
    images.unknown ? [] : group.nodes.collect { node ->
        maps_of(group.plan, node).sum { name ->
            pool_share(row) * (images.voxels * map_bytes(name, images.classes, row.folds, network) + images.cases * overheads().hdf5)
        } ?: 0
    }
}

// A node's training curves.
def curves_bytes(row) {
    row.folds * (1500 + 170 * row.epochs)
}

// A node's labels, query with its pictures, and measures. Where the images are not known there is a patch in each case.
def node_bytes(group, node, images) {
    def row = group.row
    def pool = images.unknown ? null : pool_share(row) * images.cases
    def measures = images.unknown ? 0 : (images.cases - pool) * (images.classes - 1) * 330
    def patches = labelled_patches(row, node.cycle)
    def cases = row.whole_pool ? pool ?: 0 : [patches, pool ?: patches].min()
    def voxels = images.unknown ? volume(patch_in(row, images, 0)) : images.voxels / images.cases
    def pictures = row.view_patches * volume(picture_of(patch_in(row, images, 12))) * (node.strategy && strategy_of(group.plan, node).needs_model ? 2.5 : 1)
    measures + (row.whole_pool ? 0 : pictures) + cases * (overheads().hdf5 + voxels * mask_bytes())
}

// Of large surroundings a coarser picture is stored: at most 128 voxels along an axis (`MOST` in query/views.py).
def picture_of(surroundings) {
    surroundings.collect { length -> length / Math.max(1, Math.ceil(length / 128)) }
}

// A patch with a margin of its own size, or of `least`, on each side (none for 0), cut at the image.
def patch_in(row, images, least) {
    if( row.patch_size == 'whole_image' )
        return images.unknown ? [0, 0, 0] : images.shape
    def patch = row.patch_size.tokenize(',')*.toInteger()
    def wide = patch.collect { length -> length + (least ? 2 * Math.max(length, least) : 0) }
    images.unknown ? wide : [wide, images.shape].transpose().collect { a, b -> Math.min(a as double, b as double) }
}

def report_bytes(rows) {
    Math.min(30e6, overheads().report + overheads().trajectory * rows.sum { row -> row.strategies.size() * row.seeds.size() })
}
