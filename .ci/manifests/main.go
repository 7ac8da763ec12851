// Command manifests checks the files of deploy/ that name fields of somebody else's schema: the
// Kubernetes manifests against the API's own types, the Compose file as Compose loads it, the
// cloud-init data and the policies against what they may contain.
//
//	go run . DEPLOY-FOLDER
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	strict "sigs.k8s.io/yaml"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: manifests DEPLOY-FOLDER")
		os.Exit(2)
	}
	deploy := os.Args[1]
	failed := false
	for name, check := range map[string]func(string) error{
		"kubernetes/node.yaml":   kubernetes,
		"compose.yaml":           compose,
		"aws/cloud-init.yaml":    cloudInit,
		"aws/node-policy.json":   policy,
		"aws/reader-policy.json": policy,
		"aws/bucket-policy.json": policy,
	} {
		if err := check(filepath.Join(deploy, name)); err != nil {
			fmt.Fprintf(os.Stderr, "deploy/%s: %v\n", name, err)
			failed = true
			continue
		}
		fmt.Printf("deploy/%s is what its reader expects\n", name)
	}
	if failed {
		os.Exit(1)
	}
}

// kubernetes decodes every document strictly: an unknown field, a wrong type or a field that is
// there twice is an error.
func kubernetes(path string) error {
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), appsv1.AddToScheme(scheme)); err != nil {
		return err
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	documents := yaml.NewYAMLReader(bufio.NewReader(file))
	var deployments int
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		object, kind, err := decoder.Decode(document, nil, nil)
		if err != nil {
			return err
		}
		if deployment, ok := object.(*appsv1.Deployment); ok {
			deployments++
			if err := node(deployment); err != nil {
				return fmt.Errorf("%s %s: %w", kind.Kind, deployment.Name, err)
			}
		}
	}
	if deployments == 0 {
		return errors.New("no Deployment was found")
	}
	return nil
}

// node checks what the types cannot: that the parts of a node's Deployment fit each other.
func node(deployment *appsv1.Deployment) error {
	spec, pod := deployment.Spec, deployment.Spec.Template.Spec
	for name, value := range spec.Selector.MatchLabels {
		if spec.Template.Labels[name] != value {
			return fmt.Errorf("the selector wants %s=%s, which its pods do not have", name, value)
		}
	}
	if *spec.Replicas != 1 || spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
		return errors.New("a node has one pod at a time: replicas 1, strategy Recreate")
	}
	volumes := map[string]bool{}
	for _, volume := range pod.Volumes {
		volumes[volume.Name] = true
	}
	container := pod.Containers[0]
	for _, mount := range container.VolumeMounts {
		if !volumes[mount.Name] {
			return fmt.Errorf("there is no volume %s", mount.Name)
		}
	}
	if got := container.LivenessProbe.HTTPGet.Path; got != "/v1/live" {
		return fmt.Errorf("liveness must not depend on S3, and asks %s", got)
	}
	if got := container.ReadinessProbe.HTTPGet.Path; got != "/v1/health" {
		return fmt.Errorf("readiness asks %s", got)
	}
	for _, variable := range container.Env {
		if variable.Name != "TIDEMILL_LEAVE_WITHIN" {
			continue
		}
		leave, err := time.ParseDuration(variable.Value)
		if err != nil {
			return err
		}
		grace := time.Duration(*pod.TerminationGracePeriodSeconds) * time.Second
		if leave >= grace {
			return fmt.Errorf("leaves within %s, and is killed after %s", leave, grace)
		}
		return nil
	}
	return errors.New("TIDEMILL_LEAVE_WITHIN is not set: the image's is for docker stop")
}

// compose loads the file as Compose does, with its schema and its references.
func compose(path string) error {
	options, err := cli.NewProjectOptions([]string{path}, cli.WithName("tidemill"))
	if err != nil {
		return err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return err
	}
	for _, name := range []string{"bucket", "n1", "n2"} {
		service, ok := project.Services[name]
		if !ok {
			return fmt.Errorf("no service %s", name)
		}
		leave, given := service.Environment["TIDEMILL_LEAVE_WITHIN"]
		if !given {
			continue
		}
		within, err := time.ParseDuration(*leave)
		if err != nil {
			return err
		}
		if service.StopGracePeriod == nil || within >= time.Duration(*service.StopGracePeriod) {
			return fmt.Errorf("%s leaves within %s, and is killed before that", name, within)
		}
	}
	return nil
}

// cloudInit knows the modules that the file uses.
func cloudInit(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(text, []byte("#cloud-config\n")) {
		return errors.New("the first line must be #cloud-config")
	}
	var data struct {
		Packages   []string `json:"packages"`
		WriteFiles []struct {
			Path        string `json:"path"`
			Permissions string `json:"permissions"`
			Content     string `json:"content"`
		} `json:"write_files"`
		Runcmd [][]string `json:"runcmd"`
	}
	return strict.UnmarshalStrict(text, &data)
}

// policy knows the actions that S3 has and ours need; the names of AWS are checked by nobody else
// before they are used.
func policy(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	var data struct {
		Version   string
		Statement []struct {
			Sid, Effect string
			Principal   string
			Action      list
			Resource    list
			Condition   map[string]map[string]list
		}
	}
	decoder := json.NewDecoder(file)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&data); err != nil {
		return err
	}
	if data.Version != "2012-10-17" || len(data.Statement) == 0 {
		return errors.New("it has no version or no statements")
	}
	const known = " s3:* s3:ListBucket s3:GetObject s3:PutObject s3:DeleteObject " +
		"s3:DeleteObjectVersion s3:AbortMultipartUpload s3:PutLifecycleConfiguration "
	for _, statement := range data.Statement {
		if statement.Effect != "Allow" && statement.Effect != "Deny" {
			return fmt.Errorf("%s: effect %q", statement.Sid, statement.Effect)
		}
		for _, action := range statement.Action {
			if !strings.Contains(known, " "+action+" ") {
				return fmt.Errorf("%s: action %s", statement.Sid, action)
			}
			if action == "s3:*" && statement.Effect == "Allow" {
				return fmt.Errorf("%s allows everything", statement.Sid)
			}
		}
		for _, resource := range statement.Resource {
			if !strings.HasPrefix(resource, "arn:aws:s3:::MY-BUCKET") {
				return fmt.Errorf("%s: resource %s", statement.Sid, resource)
			}
		}
	}
	return nil
}

// list is a text, or a list of them.
type list []string

func (l *list) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*l = list{one}
		return nil
	}
	var many []string
	err := json.Unmarshal(text, &many)
	*l = many
	return err
}
