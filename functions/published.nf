/*
 * What the options --publish_.. say.
 */

// The entries of a list such as test,pool.
def listed(text) {
    (text ?: '').tokenize(', ')
}

// How uncertainty maps are published: hdf5, nifti, or null for not at all. Before there was a choice it was true or false.
def uncertainty_format(values) {
    def given = values.publish_uncertainty
    given == 'true' ? 'hdf5' : given == 'false' ? null : given
}

// What EVALUATE is told of the segmentations of the test set, which it has anyway.
def test_predictions(row, node) {
    def forms = listed(row.publish_predictions)
    'test' in forms ? [predictions: "predictions/${node.id}/test", probabilities: 'probabilities' in forms ?: null] : [:]
}
