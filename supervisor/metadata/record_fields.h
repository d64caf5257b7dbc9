// Which fields of each object the filter language sees.
//
// The returned functions refer to their argument: use them while it lives.
#ifndef GANTRY_SUPERVISOR_METADATA_RECORD_FIELDS_H_
#define GANTRY_SUPERVISOR_METADATA_RECORD_FIELDS_H_

#include "content-store/store.h"
#include "proto/record/v1/record.pb.h"
#include "snapshotter/snapshotter.h"
#include "supervisor/metadata/filter.h"

namespace gantry::metadata {

Filter::Fields FieldsOf(const record::v1::Container& container);  // id runtime.name image labels.*
Filter::Fields FieldsOf(
    const record::v1::Image& image);  // name target.digest target.mediatype labels.* annotations.*
Filter::Fields FieldsOf(const record::v1::Lease& lease);       // id labels.*
Filter::Fields FieldsOf(const record::v1::Sandbox& sandbox);   // id labels.*
Filter::Fields FieldsOf(const record::v1::Namespace& ns);      // name labels.*
Filter::Fields FieldsOf(const content::Info& info);            // digest labels.*
Filter::Fields FieldsOf(const content::IngestStatus& status);  // ref
Filter::Fields FieldsOf(const snapshot::Info& info);           // kind name parent labels.*

}  // namespace gantry::metadata

#endif  // GANTRY_SUPERVISOR_METADATA_RECORD_FIELDS_H_
