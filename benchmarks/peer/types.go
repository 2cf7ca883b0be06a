package main

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var groupVersion = schema.GroupVersion{Group: "userstorage.dev", Version: "v1"}

// UserStorage has the fields that the peer reads and writes. Fields of the spec that it does not read are not kept in its cache.
type UserStorage struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              UserStorageSpec   `json:"spec"`
	Status            UserStorageStatus `json:"status,omitempty"`
}

type UserStorageSpec struct {
	UserID string `json:"userID"`
}

type UserStorageStatus struct {
	ObservedGeneration int64              `json:"observedGeneration,omitempty"`
	Phase              string             `json:"phase,omitempty"`
	Conditions         []metav1.Condition `json:"conditions,omitempty"`
	Slug               string             `json:"slug,omitempty"`
	Selector           string             `json:"selector,omitempty"`
	Replicas           int32              `json:"replicas,omitempty"`
	ServiceName        string             `json:"serviceName,omitempty"`
	URL                string             `json:"url,omitempty"`
	PodName            string             `json:"podName,omitempty"`
	PodUID             string             `json:"podUID,omitempty"`
	NodeName           string             `json:"nodeName,omitempty"`
	Image              string             `json:"image,omitempty"`
	AppliedHash        string             `json:"appliedHash,omitempty"`
	RestartCount       int32              `json:"restartCount,omitempty"`
	ReadyTime          *metav1.Time       `json:"readyTime,omitempty"`
	StartupSeconds     *int64             `json:"startupSeconds,omitempty"`
	Storage            *StorageStatus     `json:"storage,omitempty"`
}

type StorageStatus struct {
	ClaimName  string `json:"claimName,omitempty"`
	ClaimPhase string `json:"claimPhase,omitempty"`
	ClaimUID   string `json:"claimUID,omitempty"`
	VolumeName string `json:"volumeName,omitempty"`
	Requested  string `json:"requested,omitempty"`
	Capacity   string `json:"capacity,omitempty"`
}

type UserStorageList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []UserStorage `json:"items"`
}

func (in *UserStorageStatus) deepCopy() UserStorageStatus {
	out := *in
	out.Conditions = append([]metav1.Condition(nil), in.Conditions...)
	out.ReadyTime = in.ReadyTime.DeepCopy()
	if in.StartupSeconds != nil {
		seconds := *in.StartupSeconds
		out.StartupSeconds = &seconds
	}
	if in.Storage != nil {
		storage := *in.Storage
		out.Storage = &storage
	}
	return out
}

func (in *UserStorage) DeepCopy() *UserStorage {
	out := &UserStorage{TypeMeta: in.TypeMeta, Spec: in.Spec, Status: in.Status.deepCopy()}
	in.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	return out
}

func (in *UserStorage) DeepCopyObject() runtime.Object { return in.DeepCopy() }

func (in *UserStorageList) DeepCopyObject() runtime.Object {
	out := &UserStorageList{TypeMeta: in.TypeMeta}
	in.ListMeta.DeepCopyInto(&out.ListMeta)
	for i := range in.Items {
		out.Items = append(out.Items, *in.Items[i].DeepCopy())
	}
	return out
}

func addToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(groupVersion, &UserStorage{}, &UserStorageList{})
	metav1.AddToGroupVersion(scheme, groupVersion)
	return nil
}
